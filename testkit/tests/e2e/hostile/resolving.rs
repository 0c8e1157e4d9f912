//! F22: names that are looked up in vain.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    process::{Output, Stdio},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use ddm_testkit::{
    cluster::finish,
    process::{program, tool},
};
use serde_json::json;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream, UdpSocket},
    task::JoinHandle,
    time::timeout,
};

use super::fixture::{Fixture, said};
use crate::content::{MIB, event, number, source};

/// Addresses of this machine that nothing else uses.
pub(crate) const LIVE: Ipv4Addr = Ipv4Addr::new(127, 66, 66, 67);
const RESOLVER: Ipv4Addr = Ipv4Addr::new(127, 66, 66, 53);
/// A name that a file gives two addresses, and one that only the resolver could know.
const TWICE: &str = "twice.test";
const SILENT: &str = "silent.test";

/// An address at which a connection is never made: as many wait for their acceptance as may.
pub(crate) struct Dead {
    pub(crate) address: SocketAddr,
    _kept: (TcpListener, Vec<TcpStream>),
}

impl Dead {
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
        let listener = socket.listen(1)?;
        let (address, mut waiting) = (listener.local_addr()?, Vec::new());
        while let Ok(stream) = timeout(Duration::from_millis(300), TcpStream::connect(address)).await {
            waiting.push(stream?);
            anyhow::ensure!(waiting.len() < 64, "everybody is let in");
        }
        Ok(Self { address, _kept: (listener, waiting) })
    }
}

/// Passes connections on until it is aborted.
pub(crate) fn forward(from: TcpListener, to: SocketAddr) -> JoinHandle<()> {
    tokio::spawn(async move {
        while let Ok((mut here, _)) = from.accept().await {
            tokio::spawn(async move {
                let mut there = TcpStream::connect(to).await?;
                tokio::io::copy_bidirectional(&mut here, &mut there).await
            });
        }
    })
}

/// The client, where names are looked up in `hosts` and then by a resolver at an address.
async fn get(fixture: &Fixture, hosts: &str, resolver: Ipv4Addr) -> anyhow::Result<Output> {
    let own = |name: &str, text: &str| -> anyhow::Result<_> {
        let path = fixture.folder.path().join(name);
        fs::write(&path, text)?;
        Ok(path)
    };
    let (hosts, resolv) = (own("hosts", hosts)?, own("resolv.conf", &format!("nameserver {resolver}\n"))?);
    let script = r#"set -eu; mount --bind "$hosts" /etc/hosts; mount --bind "$resolv" "$(readlink -f /etc/resolv.conf)"
        getent ahostsv4 twice.test >&2; exec "$client" --json --info "$info" -o got.bin "$file""#;
    let mut shell = tool("unshare");
    shell.args(["--user", "--map-root-user", "--mount", "sh", "-c", script]).current_dir(fixture.here(""));
    shell
        .env("client", program("ddm-client")?)
        .env("info", fixture.info_server.url())
        .env("file", fixture.file.to_string());
    shell.env("hosts", hosts).env("resolv", resolv).env("HOME", fixture.folder.path().join("home"));
    let child = shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn()?;
    finish(child).await
}

#[tokio::test]
async fn a_resolver_that_never_answers_and_a_name_with_a_dead_address_cost_time_only() -> anyhow::Result<()> {
    let fixture = Fixture::new(8 * MIB, 1).await?;
    let dead = Dead::start().await?;
    let live = TcpListener::bind((LIVE, dead.address.port())).await?;
    let rogue = SocketAddr::from((Ipv4Addr::LOCALHOST, fixture.rogues[0].url().port().context("a port")?));
    let forwarding = forward(live, rogue);
    let resolver = UdpSocket::bind((RESOLVER, 53)).await.context("this row listens on port 53: run it as root")?;

    let mut details = fixture.details();
    let mut place = details["locations"][0].clone();
    let path = fixture.rogues[0].url().path().to_owned();
    let url = |host: &str| format!("http://{host}:{}{path}", dead.address.port());
    (place["server"], place["url"]) = (json!("twice"), json!(url(TWICE)));
    let mut lost = place.clone();
    (lost["server"], lost["url"]) = (json!("silent"), json!(url(SILENT)));
    details["locations"] = json!([lost, place]);
    fixture.script(&details, &fixture.manifest());

    let hosts = format!("{} {TWICE}\n{LIVE} {TWICE}\n", Ipv4Addr::LOCALHOST);
    let started = Instant::now();
    let output = get(&fixture, &hosts, RESOLVER).await?;
    let took = started.elapsed();
    let words = said(&output);
    assert!(words.starts_with("127.0.0.1 "), "the dead address is not the first one: {words}");
    let done = event(&output, "done").with_context(|| words.clone())?;
    assert!(fixture.is_right("got.bin")?);
    assert_eq!(number(&source(&done, "twice")?["bytes"]), 8 * MIB, "{done}");
    assert_eq!(number(&source(&done, "silent")?["bytes"]), 0, "{done}");
    // It was asked, and has not answered.
    let mut question = [0; 512];
    timeout(Duration::from_secs(1), resolver.recv(&mut question)).await.context("nobody asked the resolver")??;
    println!("took {took:?}");
    assert!(took < Duration::from_secs(10), "{took:?}");
    forwarding.abort();
    Ok(())
}
