//! Replication to a second zone over a shaped link, how soon its servers pass chunks on, and how soon a scrub heals.
//!
//! `replication [MIB [MBIT_PER_SECOND]]`, 1024 and 600 by default. Needs root, for network namespaces.

#![expect(clippy::print_stdout, reason = "it prints what it measured")]

use std::{
    io::Write as _,
    os::unix::fs::FileExt as _,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use ddm_testkit::{
    cluster::{Cluster, Plan},
    netns::{Net, Shape},
    process::eventually,
};
use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};
use rustix::process::Signal;
use serde_json::Value;

const ZONES: [&str; 6] = ["eu", "eu", "eu", "us", "us", "us"];
const US: std::ops::Range<usize> = 3..6;
const REPLICATION_TIMEOUT: Duration = Duration::from_secs(600);
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Seconds after the publication: a chunk arrived in the second zone, was passed on there, one server had all, every one had.
#[derive(Debug, Default)]
struct Seen {
    arrived: Option<f64>,
    passed_on: Option<f64>,
    first: Option<f64>,
    all: Option<f64>,
}

async fn metric(cluster: &Cluster, n: usize, name: &str) -> anyhow::Result<u64> {
    let server = cluster.servers.get(n).and_then(|server| server.process.as_ref()).context("a server")?;
    let text = cluster.http.get(format!("http://{}/metrics", server.address())).send().await?.text().await?;
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("ddm_file_server_{name} ")));
    Ok(line.with_context(|| format!("no metric {name}"))?.trim().parse()?)
}

async fn look(cluster: &Cluster, id: &str, seen: &mut Seen, now: f64) -> anyhow::Result<()> {
    for n in US {
        if metric(cluster, n, "replicated_chunks_total").await? > 0 {
            seen.arrived.get_or_insert(now);
        }
        if metric(cluster, n, "content_bytes_total").await? > 0 {
            seen.passed_on.get_or_insert(now);
        }
    }
    let status: Value = cluster.get(&format!("/v1/files/{id}/replicas")).await?;
    let complete = status.pointer("/zones/us/complete").and_then(Value::as_u64).unwrap_or(0);
    if complete > 0 {
        seen.first.get_or_insert(now);
    }
    if status.get("replicated") == Some(&Value::Bool(true)) {
        seen.all.get_or_insert(now);
    }
    Ok(())
}

async fn replicate(cluster: &Cluster, net: &Net, size: u64, mbit: u64) -> anyhow::Result<String> {
    let path = cluster.path("x.bin");
    let mut file = std::fs::File::create(&path)?;
    let mut random = SmallRng::seed_from_u64(1);
    let mut block = vec![0; 1 << 20];
    for _ in 0..size >> 20 {
        random.fill_bytes(&mut block);
        file.write_all(&block)?;
    }
    let crossed = net.bytes("eu", "us")?;
    let id = cluster.publish(&path, &["--zones", "eu,us", "--replicas", "3"]).await?;
    let (began, mut seen) = (Instant::now(), Seen::default());
    while seen.all.is_none() {
        ensure!(began.elapsed() < REPLICATION_TIMEOUT, "not replicated in time");
        look(cluster, &id, &mut seen, began.elapsed().as_secs_f64()).await?;
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    let crossed = net.bytes("eu", "us")? - crossed;
    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    let (bytes, crossed, rate) = (size as f64, crossed as f64, mbit as f64 * 1e6 / 8.0);
    let share = |seconds: Option<f64>| seconds.map_or(0.0, |seconds| bytes / seconds / rate);
    println!(
        "replicated: one server after {:.2} s, all after {:.2} s",
        seen.first.unwrap_or(0.0),
        seen.all.unwrap_or(0.0)
    );
    println!("share of the link's rate: {:.3} to the first, {:.3} to all", share(seen.first), share(seen.all));
    println!("crossed the link: {:.4} of the file, headers included", crossed / bytes);
    let passing = seen.passed_on.zip(seen.arrived).map(|(passed, arrived)| passed - arrived);
    println!("first chunk passed on {:.3} s after it arrived", passing.unwrap_or(f64::NAN));
    Ok(id)
}

async fn heal(cluster: &Cluster, id: &str, size: u64) -> anyhow::Result<()> {
    let shard = id.get(id.len() - 2..).context("an id")?;
    let path = cluster.path(&format!("file-server-3/files/{shard}/{id}"));
    let at = size - (1 << 19);
    let blob = std::fs::File::options().read(true).write(true).open(&path)?;
    let mut byte = [0];
    blob.read_exact_at(&mut byte, at)?;
    blob.write_all_at(&byte.map(|byte| byte ^ 4), at)?;
    blob.sync_all()?;
    let began = Instant::now();
    cluster.servers.get(3).and_then(|server| server.process.as_ref()).context("a server")?.signal(Signal::HUP)?;
    eventually("healed", REPLICATION_TIMEOUT, async || {
        let mut found = [0];
        let read = std::fs::File::open(&path).and_then(|blob| blob.read_exact_at(&mut found, at));
        Ok((read.is_ok() && found == byte).then_some(()))
    })
    .await?;
    println!("a byte flipped in the last chunk healed {:.1} s after the scrub began", began.elapsed().as_secs_f64());
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let number = |n: usize, default: u64| std::env::args().nth(n).map_or(Ok(default), |text| text.parse());
    let (size, mbit) = (number(1, 1024)? << 20, number(2, 600)?);
    let Some(net) = Net::start(&["eu", "us"])? else { return Ok(()) };
    let cluster = Cluster::start(&Plan { net: Some(net.clone()), ..Plan::zones(&ZONES) }).await?;
    net.link("us")?.set(Shape { rate: Some(mbit * 1_000_000), ..Shape::default() })?;
    let id = replicate(&cluster, &net, size, mbit).await?;
    heal(&cluster, &id, size).await
}
