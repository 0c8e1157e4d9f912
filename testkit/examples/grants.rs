//! Details queries for 30 s against real processes and a real RabbitMQ node: how many, how long until a fresh token is usable
//! everywhere, and how long until the last one is stored by three file servers. See benchmarks/grants.

#![expect(
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a program that measures prints; JSON null is no panic"
)]

use std::time::{Duration, Instant};

use anyhow::Context as _;
use ddm_testkit::{
    cluster::{Cluster, Plan},
    process::eventually,
    rabbitmq::RabbitMq,
};
use futures::future::try_join_all;
use reqwest::StatusCode;
use rustix::process::Signal;
use serde_json::Value;

/// Unless the first argument says otherwise.
const CONNECTIONS: usize = 128;
const TIME: Duration = Duration::from_secs(30);
/// Number of the last tokens that are looked for on every server.
const LAST: usize = 100;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let connections = std::env::args().nth(1).map_or(Ok(CONNECTIONS), |count| count.parse())?;
    let broker = RabbitMq::start().await?;
    let cluster = Cluster::start(&Plan { amqp: Some(broker.uri()), ..Plan::zones(&["eu", "us", "us"]) }).await?;
    let path = cluster.path("x.bin");
    std::fs::write(&path, [7; 1000])?;
    let id = cluster.publish(&path, &["--quorum", "3"]).await?;
    let until = Instant::now() + TIME;
    let asked = try_join_all((0..connections).map(|_| ask(&cluster, &id, until)));
    let (asked, mut waits) = tokio::try_join!(asked, probe(&cluster, &id, until))?;
    let end = Instant::now();
    let tokens: Vec<String> = asked.iter().flat_map(|asked| asked.last.iter().cloned()).collect();
    let urls = waits.1;
    let info = cluster.info.as_ref().context("an info-server")?;
    eventually("the last tokens are stored", Duration::from_secs(60), async || {
        // Nobody can be asked: a token is honoured only where it is stored.
        info.signal(Signal::STOP)?;
        let mut stored = true;
        'all: for token in tokens.iter().rev().take(LAST) {
            for url in &urls {
                if cluster.http.head(url).bearer_auth(token).send().await?.status() != StatusCode::OK {
                    stored = false;
                    break 'all;
                }
            }
        }
        info.signal(Signal::CONT)?;
        Ok(stored.then_some(()))
    })
    .await?;
    let stored = end.elapsed();
    let count: usize = asked.iter().map(|asked| asked.count).sum();
    waits.0.sort_unstable();
    let at = |part: usize| waits.0.get(waits.0.len() * part / 100).copied().unwrap_or_default();
    println!("details queries: {count} in {TIME:?} over {connections} connections, {} a second", count / 30);
    println!("usable everywhere after the answer: p50 {:?}, p99 {:?} of {}", at(50), at(99), waits.0.len());
    println!("the last {LAST} tokens on three servers: {stored:?} after the last answer, the look included");
    Ok(())
}

/// Answers that one connection received.
struct Asked {
    count: usize,
    last: Vec<String>,
}

async fn ask(cluster: &Cluster, id: &str, until: Instant) -> anyhow::Result<Asked> {
    let mut asked = Asked { count: 0, last: Vec::new() };
    while Instant::now() < until {
        let details = cluster.details(id).await?;
        asked.count += 1;
        let token = details["download"]["token"].as_str().context("a token")?.to_owned();
        if asked.last.len() > LAST / CONNECTIONS {
            asked.last.remove(0);
        }
        asked.last.push(token);
    }
    Ok(asked)
}

/// Returns the times from an answer until its token opens the file on every server, and the servers' addresses.
async fn probe(cluster: &Cluster, id: &str, until: Instant) -> anyhow::Result<(Vec<Duration>, Vec<String>)> {
    let (mut waits, mut urls) = (Vec::new(), Vec::new());
    while Instant::now() < until {
        let details: Value = cluster.details(id).await?;
        let (answered, token) = (Instant::now(), details["download"]["token"].as_str().context("a token")?);
        let locations = details["locations"].as_array().context("locations")?;
        urls = locations.iter().filter_map(|at| at["url"].as_str()).map(str::to_owned).collect();
        try_join_all(urls.iter().map(async |url| {
            while cluster.http.head(url).bearer_auth(token).send().await?.status() != StatusCode::OK {}
            anyhow::Ok(())
        }))
        .await?;
        waits.push(answered.elapsed());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok((waits, urls))
}
