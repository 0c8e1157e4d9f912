//! W8: a broker's name whose first address is dead.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Context as _;
use ddm_testkit::{
    cluster::STEP_TIMEOUT,
    process::{Server, Surroundings, eventually, write_private},
    rabbitmq::VirtualHost,
};
use serde_json::Value;
use tokio::net::TcpListener;

use crate::hostile::resolving::{Dead, LIVE, forward};

const NAME: &str = "broker.test";

#[tokio::test]
async fn servers_reach_a_broker_by_the_living_one_of_the_addresses_of_its_name() -> anyhow::Result<()> {
    let (broker, dead, folder) = (VirtualHost::new().await?, Dead::start().await?, tempfile::tempdir()?);
    let mut uri = url::Url::parse(&broker.uri())?;
    let port = uri.port().context("the broker's port")?;
    let live = TcpListener::bind((LIVE, dead.address.port())).await?;
    let forwarding = forward(live, SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    uri.set_port(Some(dead.address.port())).ok().context("a URI with a port")?;
    uri.set_host(Some(NAME))?;
    let path = |name: &str| folder.path().join(name).display().to_string();
    write_private(path("broker-url").as_ref(), uri.as_str().as_bytes())?;
    std::fs::write(path("hosts"), format!("{} {NAME}\n{LIVE} {NAME}\n127.0.0.1 localhost\n", dead.address.ip()))?;
    let script = "set -eu; mount --bind \"$0\" /etc/hosts; exec \"$@\"";
    let before = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, &path("hosts")];
    let before = before.map(str::to_owned);
    let start = async |name: &str, more: &[String]| {
        let args =
            ["--listen", "127.0.0.1:0", "--data", &path(name), "--amqp-file", &path("broker-url")].map(str::to_owned);
        let surroundings = Surroundings { before: &before, ..Surroundings::default() };
        Server::start_in(surroundings, name, &[&args[..], more].concat(), path(&format!("{name}.log")).as_ref()).await
    };
    let info = start("ddm-info-server", &[]).await?;
    let secret = path("ddm-info-server/join-secret");
    let more = ["--zone", "eu", "--info", &format!("http://{}", info.address()), "--join-secret-file", &secret];
    let server = start("ddm-file-server", &more.map(str::to_owned)).await?;
    eventually("the info-server is connected", STEP_TIMEOUT, async || {
        let ready: Value = reqwest::get(format!("http://{}/readyz", info.address())).await?.json().await?;
        Ok((ready["bus"] == "connected").then_some(()))
    })
    .await?;
    eventually("the file server takes events from its queue", STEP_TIMEOUT, async || {
        let queues = broker.ctl(&["list_queues", "-q", "name", "consumers"]).await?;
        let consumed = |line: &str| line.starts_with("ddm.server.") && line.ends_with("\t1");
        Ok(queues.lines().any(consumed).then_some(()))
    })
    .await?;
    assert!(server.runs());
    forwarding.abort();
    Ok(())
}
