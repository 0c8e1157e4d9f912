//! F9: a server that is told to stop says so first, finishes what runs, and stops at once when it is told twice.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use ddm_testkit::{cluster::Cluster, process::eventually};
use reqwest::{Method, Response};
use rustix::process::Signal;
use serde_json::json;
use tokio::{
    io::AsyncWriteExt as _,
    net::TcpStream,
    time::{sleep, timeout},
};

use super::{HANG_TIMEOUT, ask, last, pair};
use crate::content::{MIB, bytes, file};

/// `/readyz` and something else, on connections of their own; `None` when nothing listens any more.
async fn seen(address: SocketAddr, other: &str) -> Option<(u16, u16)> {
    let ready = ask(address, last("GET", "/readyz", "", "").as_bytes()).await.ok()?;
    let other = ask(address, last("GET", other, "", "").as_bytes()).await.ok()?;
    Some((ready.first()?.status, other.first()?.status))
}

async fn says_that_it_stops(address: SocketAddr, other: &str) -> anyhow::Result<()> {
    eventually("it says that it stops", Duration::from_secs(10), async || {
        Ok(seen(address, other).await.filter(|seen| *seen == (503, 503)))
    })
    .await
    .map(drop)
}

/// A download that has begun, of more than the sockets' buffers take.
async fn begun(cluster: &Cluster, size: u64) -> anyhow::Result<(Response, Vec<u8>)> {
    let id = cluster.publish(&file(cluster, "x.bin", 1, size)?, &["--quorum", "1"]).await?;
    let details = cluster.details(&id).await?;
    let url = details["locations"][0]["url"].as_str().context("a url")?;
    let token = details["download"]["token"].as_str().context("a token")?;
    let mut answer = cluster.http.get(url).bearer_auth(token).send().await?;
    let first = answer.chunk().await?.context("a first piece")?.to_vec();
    Ok((answer, first))
}

#[tokio::test]
async fn a_file_server_under_load_is_not_ready_first_and_finishes_its_ranges() -> anyhow::Result<()> {
    let mut cluster = pair(&[]).await?;
    let (mut answer, mut came) = begun(&cluster, 64 * MIB).await?;
    let mut server = cluster.take_server(0)?;
    server.signal(Signal::TERM)?;
    says_that_it_stops(server.address(), "/v1/files/x/content").await?;
    while let Some(more) = answer.chunk().await? {
        came.extend_from_slice(&more);
    }
    assert!(came == bytes(1, 64 * MIB));
    let finished = Instant::now();
    assert!(server.wait().await?.success());
    assert!(finished.elapsed() < Duration::from_secs(20));
    Ok(())
}

#[tokio::test]
async fn a_second_signal_stops_a_file_server_at_once() -> anyhow::Result<()> {
    let mut cluster = pair(&[]).await?;
    let (mut answer, _) = begun(&cluster, 64 * MIB).await?;
    let mut server = cluster.take_server(0)?;
    server.signal(Signal::TERM)?;
    says_that_it_stops(server.address(), "/v1/files/x/content").await?;
    server.signal(Signal::TERM)?;
    let signalled = Instant::now();
    timeout(HANG_TIMEOUT, server.wait()).await??;
    assert!(signalled.elapsed() < Duration::from_secs(10), "{:?}", signalled.elapsed());
    let rest = async {
        while answer.chunk().await?.is_some() {}
        anyhow::Ok(())
    };
    assert!(timeout(HANG_TIMEOUT, rest).await?.is_err(), "the body was cut");
    Ok(())
}

#[tokio::test]
async fn what_does_not_finish_is_cut_when_the_grace_ends() -> anyhow::Result<()> {
    let mut cluster = pair(&["--write-timeout", "5m"]).await?;
    let (answer, _) = begun(&cluster, 64 * MIB).await?;
    let mut server = cluster.take_server(0)?;
    server.signal(Signal::TERM)?;
    let signalled = Instant::now();
    timeout(HANG_TIMEOUT, server.wait()).await??;
    let took = signalled.elapsed();
    assert!((Duration::from_secs(25)..Duration::from_secs(45)).contains(&took), "{took:?}");
    drop(answer);
    Ok(())
}

/// A commit that waits for a quorum that is never reached: a request of the info-server that runs for seconds.
async fn waiting_commit(cluster: &Cluster) -> anyhow::Result<tokio::task::JoinHandle<reqwest::Result<Response>>> {
    let announced = json!({ "name": "x.bin", "size": MIB, "quorum": 1, "policy": { "replicas": 1 } });
    let made: serde_json::Value =
        cluster.request(Method::POST, "/v1/files").json(&announced).send().await?.error_for_status()?.json().await?;
    let digest = "0".repeat(64);
    let commit = format!("/v1/files/{}/commit", made["id"].as_str().context("an id")?);
    let request = cluster.request(Method::POST, &commit).json(&json!({ "sha256": digest, "chunks": [digest] }));
    let sent = tokio::spawn(request.send());
    sleep(Duration::from_secs(1)).await;
    assert!(!sent.is_finished(), "the commit did not wait: {:?}", sent.await?);
    Ok(sent)
}

#[tokio::test]
async fn an_info_server_under_load_is_not_ready_first_and_finishes_its_requests() -> anyhow::Result<()> {
    let mut cluster = pair(&[]).await?;
    let running = waiting_commit(&cluster).await?;
    let mut info = cluster.info.take().context("an info-server")?;
    // Neither an idle connection nor half a head keeps it.
    let mut sleeper = TcpStream::connect(info.address()).await?;
    sleeper.write_all(b"GET /livez HT").await?;
    info.signal(Signal::TERM)?;
    says_that_it_stops(info.address(), "/v1/files").await?;
    assert_eq!(running.await??.status(), 409, "it was answered");
    assert!(info.wait().await?.success());
    Ok(())
}

#[tokio::test]
async fn a_second_signal_stops_an_info_server_at_once() -> anyhow::Result<()> {
    let mut cluster = pair(&[]).await?;
    let running = waiting_commit(&cluster).await?;
    let mut info = cluster.info.take().context("an info-server")?;
    info.signal(Signal::TERM)?;
    says_that_it_stops(info.address(), "/v1/files").await?;
    info.signal(Signal::INT)?;
    let signalled = Instant::now();
    timeout(HANG_TIMEOUT, info.wait()).await??;
    assert!(signalled.elapsed() < Duration::from_secs(5), "{:?}", signalled.elapsed());
    assert!(running.await?.is_err(), "the request was dropped");
    Ok(())
}
