//! P6, P7, F13, F14: servers that are cut off from the broker or the info-server.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use ddm_testkit::{
    cluster::{Cluster, Plan, STEP_TIMEOUT},
    proxy::Fault,
    rabbitmq::{RabbitMq, VirtualHost},
    window,
};
use reqwest::StatusCode;

use super::fixture::{all_known, behind_proxy, connected, grant, refused_everywhere, revoke, status, urls};
use crate::{content::file, events::all_know};

/// Time limit for a revocation to reach servers that are connected to the info-server, whatever the broker does.
const REVOKED: Duration = Duration::from_secs(2);

#[tokio::test]
async fn an_info_server_cut_off_from_the_broker_grants_on_and_its_events_arrive() -> anyhow::Result<()> {
    let broker = VirtualHost::new().await?;
    let (proxy, url) = behind_proxy(&broker.uri()).await?;
    let plan = Plan { amqp: Some(url), file_server_amqp: Some(broker.uri()), ..Plan::zones(&["eu", "us"]) };
    let cluster = Cluster::start(&plan).await?;
    let id = cluster.publish(&file(&cluster, "x.bin", 26, 1000)?, &[]).await?;
    connected(&cluster).await?;
    proxy.spoil(Fault::Refuse);
    let tokens = grant(&cluster, &id, 100).await?;
    let revoked = cluster.details(&id).await?;
    revoke(&cluster, &revoked).await?;
    // The log has what the broker does not bring.
    all_known(&cluster, &id, &tokens).await?;
    // Others may take their time: what is told of all is not.
    let late = cluster.details(&id).await?;
    let urls = urls(&cluster, &id).await?;
    refused_everywhere(&cluster, &urls, &revoked, STEP_TIMEOUT).await?;
    revoke(&cluster, &late).await?;
    refused_everywhere(&cluster, &urls, &late, REVOKED).await?;
    tokio::time::sleep(window(Duration::from_secs(2), Duration::from_secs(60))).await;
    proxy.spoil(Fault::None);
    connected(&cluster).await
}

#[tokio::test]
async fn a_token_revoked_while_its_servers_are_cut_off_from_the_broker_ends_there_too() -> anyhow::Result<()> {
    let broker = VirtualHost::new().await?;
    let (proxy, url) = behind_proxy(&broker.uri()).await?;
    let plan =
        Plan { amqp: Some(broker.uri()), file_server_amqp: Some(url), proxied: true, ..Plan::zones(&["eu", "us"]) };
    let cluster = Cluster::start(&plan).await?;
    let id = cluster.publish(&file(&cluster, "x.bin", 27, 32 << 20)?, &[]).await?;
    let details = cluster.details(&id).await?;
    all_know(&cluster, &details).await?;
    for server in &cluster.servers {
        server.proxy.as_ref().context("a proxy")?.limit(Some(1 << 20));
    }
    let urls = urls(&cluster, &id).await?;
    let token = details["download"]["token"].as_str().context("a token")?;
    let mut running = cluster.http.get(&urls[0]).bearer_auth(token).send().await?;
    running.chunk().await?.context("a first part")?;
    proxy.spoil(Fault::Refuse);
    revoke(&cluster, &details).await?;
    refused_everywhere(&cluster, &urls, &details, REVOKED).await?;
    let cut = loop {
        match running.chunk().await {
            Ok(Some(_)) => {}
            Ok(None) => break false,
            Err(_) => break true,
        }
    };
    assert!(cut, "the running body went on to its end");
    Ok(())
}

#[tokio::test]
async fn a_server_that_has_just_started_hears_of_a_revocation_although_the_broker_is_away() -> anyhow::Result<()> {
    let broker = VirtualHost::new().await?;
    let (proxy, url) = behind_proxy(&broker.uri()).await?;
    let plan = Plan { amqp: Some(broker.uri()), file_server_amqp: Some(url), ..Plan::zones(&["eu", "us"]) };
    let cluster = Cluster::start(&plan).await?;
    let id = cluster.publish(&file(&cluster, "x.bin", 29, 1000)?, &[]).await?;
    let details = cluster.details(&id).await?;
    all_know(&cluster, &details).await?;
    let urls = urls(&cluster, &id).await?;
    proxy.spoil(Fault::Refuse);
    revoke(&cluster, &details).await?;
    refused_everywhere(&cluster, &urls, &details, REVOKED).await
}

#[tokio::test]
async fn known_tokens_are_honoured_without_broker_and_info_server() -> anyhow::Result<()> {
    let broker = RabbitMq::start().await?;
    let mut cluster = Cluster::start(&Plan { amqp: Some(broker.uri()), ..Plan::zones(&["eu", "us"]) }).await?;
    let id = cluster.publish(&file(&cluster, "x.bin", 28, 1000)?, &[]).await?;
    let details = cluster.details(&id).await?;
    all_know(&cluster, &details).await?;
    let urls = urls(&cluster, &id).await?;
    broker.kill().await?;
    cluster.info.take().context("an info-server")?.kill().await?;
    let until = Instant::now() + window(Duration::from_secs(5), Duration::from_secs(60));
    let mut asked = 0;
    while Instant::now() < until || asked < 100 {
        for url in &urls {
            assert_eq!(status(&cluster, url, &details["download"]["token"]).await?, StatusCode::OK, "request {asked}");
            asked += 1;
        }
    }
    // A server that starts now, alone, knows it too.
    cluster.take_server(0)?.kill().await?;
    cluster.restart_server(0).await?;
    for url in &urls {
        assert_eq!(status(&cluster, url, &details["download"]["token"]).await?, StatusCode::OK);
    }
    Ok(())
}
