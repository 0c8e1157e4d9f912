//! A URL fetched together by workers whose links are capped alike, in network namespaces: how much faster several are than one,
//! what leaves the origin, and what it costs when one is killed midway.
//!
//! `cargo run --release -p ddm-testkit --example together -- [MIB [MBIT [WORKERS…]]]` as root, after
//! `cargo build --release --workspace`.

#![expect(
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a program that measures prints; JSON null is no panic"
)]

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use ddm_testkit::{
    cluster::{Cluster, Plan, finish},
    netns::{Net, Shape},
    process::eventually,
    rogue::Rogue,
};
use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};
use serde_json::Value;
use wire::FileId;

const STEP_TIMEOUT: Duration = Duration::from_secs(1800);

/// Time and bytes of one download.
struct Taken {
    wall: Duration,
    /// Time until the info-server had the reports of all chunks.
    fetched: Option<Duration>,
    /// Time from the first reported chunk to the first byte in the client's file.
    first: Option<Duration>,
    /// Bytes that left the origin for each byte of the file.
    left: f64,
    /// Time from the kill to the end, and the part that was not fetched at the kill.
    rest: Option<(Duration, f64)>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let numbers: Vec<u64> = std::env::args().skip(1).map(|arg| arg.parse()).collect::<Result<_, _>>()?;
    let mib = numbers.first().copied().unwrap_or(1024);
    let mbit = numbers.get(1).copied().unwrap_or(100);
    let counts = match numbers.get(2..) {
        Some(counts) if !counts.is_empty() => counts.to_vec(),
        _ => vec![1, 2, 3, 8],
    };
    let mut content = vec![0; usize::try_from(mib << 20)?];
    SmallRng::seed_from_u64(mib).fill_bytes(&mut content);
    let content = Bytes::from(content);
    println!("{mib} MiB, each worker's link {mbit} Mbit/s\n");
    println!(
        "| workers | wall | fetched after | speed-up | bytes left the origin / file | first byte after the first chunk |"
    );
    println!("|---|---|---|---|---|---|");
    let mut alone = None;
    for count in counts {
        let taken = fetch(&content, mbit, usize::try_from(count)?, false).await?;
        let one = *alone.get_or_insert(taken.wall);
        let seconds =
            |it: Option<Duration>| it.map_or_else(|| "-".to_owned(), |it| format!("{:.2} s", it.as_secs_f64()));
        let (fetched, first) = (seconds(taken.fetched), seconds(taken.first));
        let (wall, speed_up) = (taken.wall.as_secs_f64(), one.as_secs_f64() / taken.wall.as_secs_f64());
        println!("| {count} | {wall:.1} s | {fetched} | {speed_up:.2} | {:.4} | {first} |", taken.left);
    }
    let taken = fetch(&content, mbit, 3, true).await?;
    let (rest, share) = taken.rest.context("one was killed")?;
    // Two are ideally twice as fast as the one that was measured first.
    let alone = alone.context("at least one run")?.as_secs_f64();
    let ideal = alone * share / 2.0;
    let ratio = rest.as_secs_f64() / ideal;
    println!(
        "\none of three killed with {:.0} % left: {:.1} s to the end, {ratio:.2} x the ideal with two",
        share * 100.0,
        rest.as_secs_f64()
    );
    Ok(())
}

async fn fetch(content: &Bytes, mbit: u64, workers: usize, kill: bool) -> anyhow::Result<Taken> {
    let net = Net::start(&["eu"])?.context("namespaces")?;
    let (cluster, origin) = fixture(&net, content, mbit, workers).await?;
    let mut cluster = cluster;
    let (url, begun) = (origin.url().to_string(), Instant::now());
    let client = cluster.spawn_client(&["--json", "-o", "got.bin", &url])?;
    let mut ended = std::pin::pin!(finish(client));
    let part = cluster.path("got.bin.part");
    let (mut began, mut fetched, mut first, mut killed) = (None, None, None, None);
    let output = loop {
        tokio::select! {
            output = &mut ended => break output?,
            () = tokio::time::sleep(Duration::from_millis(50)) => {}
        }
        if first.is_none() || fetched.is_none() {
            let share = progress(&cluster).await?;
            if share > 0.0 {
                began.get_or_insert_with(Instant::now);
            }
            if share >= 1.0 {
                fetched.get_or_insert_with(|| begun.elapsed());
            }
            let written =
                std::fs::metadata(&part).is_ok_and(|found| std::os::unix::fs::MetadataExt::blocks(&found) > 0);
            first = first.or_else(|| Some(began?.elapsed()).filter(|_| written));
            if kill && killed.is_none() && share > 0.4 {
                cluster.take_server(0)?.kill().await?;
                killed = Some((Instant::now(), 1.0 - share));
            }
        }
    };
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let wall = begun.elapsed();
    let rest = killed.map(|(at, share)| (at.elapsed(), share));
    ensure!(std::fs::read(cluster.path("got.bin"))? == *content, "what came is not what the origin has");
    let size = real(u64::try_from(content.len())?);
    Ok(Taken { wall, fetched, first, left: real(origin.sent()) / size, rest })
}

/// Workers with capped links, and an origin that has none.
async fn fixture(net: &Arc<Net>, content: &Bytes, mbit: u64, workers: usize) -> anyhow::Result<(Cluster, Rogue)> {
    let allow = vec!["--origin-allow".to_owned(), "10.0.0.0/8".to_owned()];
    let plan = Plan {
        net: Some(net.clone()),
        info_args: allow.clone(),
        file_server_args: allow,
        ..Plan::zones(&vec!["eu"; workers])
    };
    let cluster = Cluster::start(&plan).await?;
    let mut octet = 0;
    for server in &cluster.servers {
        let host = server.host.as_ref().context("a host")?;
        host.link.set(Shape { rate: Some(mbit * 1_000_000), ..Shape::default() })?;
        octet = host.address().octets()[1];
    }
    // The test's own address in the net.
    let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, octet, 0, 254)), 0);
    let origin = Rogue::start_at(address, FileId::new(), content.clone()).await?;
    eventually("all workers are reachable", STEP_TIMEOUT, async || {
        Ok((cluster.server_ids().await?.len() == workers).then_some(()))
    })
    .await?;
    Ok((cluster, origin))
}

/// Returns the fetched share of the one job's file, 0 to 1.
async fn progress(cluster: &Cluster) -> anyhow::Result<f64> {
    let list: Value = cluster.get("/v1/jobs").await?;
    let job = &list["jobs"][0];
    let (fetched, chunks) = (job["fetched"].as_u64().unwrap_or(0), job["chunks"].as_u64().unwrap_or(0));
    Ok(if chunks == 0 { 0.0 } else { real(fetched) / real(chunks) })
}

#[expect(clippy::cast_precision_loss, reason = "a figure")]
fn real(count: u64) -> f64 {
    count as f64
}
