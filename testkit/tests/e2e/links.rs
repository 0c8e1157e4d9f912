//! S5, S18, P3, F11: two zones of three servers with a cable between them that is counted, shaped and cut.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use ddm_testkit::{
    cluster::{Cluster, Plan, STEP_TIMEOUT, finish},
    netns::{Net, Shape},
    process::eventually,
};

use crate::{
    content::{MIB, event, file, sha256},
    standing::{assigned, complete, given, replicated, status},
};

const ZONES: [&str; 6] = ["eu", "eu", "eu", "us", "us", "us"];
const EU: std::ops::Range<usize> = 0..3;
const US: std::ops::Range<usize> = 3..6;

/// Three servers in each of two zones, each on a host of its own; clients stand in `eu`.
async fn fixture(net: &Arc<Net>, info_args: &[&str]) -> anyhow::Result<Cluster> {
    let info_args = info_args.iter().map(|arg| (*arg).to_owned()).collect();
    Cluster::start(&Plan { net: Some(net.clone()), info_args, ..Plan::zones(&ZONES) }).await
}

fn rate(bits: u64) -> Shape {
    Shape { rate: Some(bits), ..Shape::default() }
}

#[tokio::test]
async fn a_file_for_all_servers_of_two_zones_crosses_the_link_between_them_once() -> anyhow::Result<()> {
    const SIZE: u64 = 256 * MIB;
    let Some(net) = Net::start(&["eu", "us"])? else { return Ok(()) };
    let cluster = fixture(&net, &[]).await?;
    net.link("us")?.set(rate(1_000_000_000))?;
    let path = file(&cluster, "x.bin", ddm_testkit::seed(), SIZE)?;
    let (crossed, started) = (net.bytes("eu", "us")?, Instant::now());
    let id = cluster.publish(&path, &["--zones", "eu,us", "--replicas", "3", "--wait=100s"]).await?;
    let took = started.elapsed();
    let payload = given(&cluster, EU).await?;
    let crossed = net.bytes("eu", "us")? - crossed;
    let share = |bytes: u64| bytes as f64 / SIZE as f64;
    println!(
        "payload {:.4}, at the interface {:.4} of the file; replicated after {took:?}",
        share(payload),
        share(crossed)
    );
    assert_eq!(complete(&cluster, &id).await?, (0..6).collect::<Vec<_>>());
    assert!(payload >= SIZE && share(payload) <= 1.02, "{payload} bytes for {SIZE}");
    assert!(share(crossed) <= 1.08, "{crossed} bytes for {SIZE}");
    Ok(())
}

#[tokio::test]
async fn a_link_cut_while_a_file_crosses_it_is_left_in_peace_and_heals_by_itself() -> anyhow::Result<()> {
    const SIZE: u64 = 48 * MIB;
    let Some(net) = Net::start(&["eu", "us"])? else { return Ok(()) };
    let cluster = fixture(&net, &[]).await?;
    net.link("us")?.set(rate(120_000_000))?;
    let path = file(&cluster, "x.bin", ddm_testkit::seed(), SIZE)?;
    let before = net.bytes("eu", "us")?;
    let id = cluster.publish(&path, &["--zones", "eu,us", "--replicas", "3"]).await?;
    eventually("a third has crossed", STEP_TIMEOUT, async || {
        Ok((net.bytes("eu", "us")? > before + SIZE / 3).then_some(()))
    })
    .await?;
    net.link("us")?.set(Shape::CUT)?;
    let at_cut = net.bytes("eu", "us")? - before;
    // What breaks at once is tried again at once.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let (tries, span) = (net.tries("us")?, ddm_testkit::window(Duration::from_secs(12), Duration::from_secs(60)));
    tokio::time::sleep(span).await;
    let tries = (net.tries("us")? - tries) as f64 / span.as_secs_f64() / US.len() as f64;
    println!("{tries:.2} tries a second and server");
    assert!(complete(&cluster, &id).await?.iter().all(|n| EU.contains(n)));
    net.link("us")?.set(rate(120_000_000))?;
    let healed = Instant::now();
    replicated(&cluster, &id, Duration::from_secs(60)).await?;
    println!("replicated {:?} after the link was back", healed.elapsed());
    assert_eq!(complete(&cluster, &id).await?, (0..6).collect::<Vec<_>>());
    assert!(tries <= 2.0, "{tries} tries a second and server");
    // Chunks that had arrived do not cross again; what was in flight does.
    let crossed = net.bytes("eu", "us")? - before;
    println!(
        "{:.3} of the file crossed, {:.3} of it before the cut",
        crossed as f64 / SIZE as f64,
        at_cut as f64 / SIZE as f64
    );
    assert!(crossed <= SIZE + SIZE / 4, "{crossed} bytes for {SIZE}");
    Ok(())
}

/// File that a client downloads again and again.
struct Repeated<'a> {
    zone: &'a str,
    id: &'a str,
    digest: &'a str,
}

/// Downloads a file again and again until `stop` is cancelled; returns the number of downloads.
async fn download_on_and_on(
    cluster: &Cluster,
    &Repeated { zone, id, digest }: &Repeated<'_>,
    stop: &tokio_util::sync::CancellationToken,
) -> anyhow::Result<usize> {
    let name = format!("got-{zone}.bin");
    for done in 0.. {
        if stop.is_cancelled() {
            return Ok(done);
        }
        let args = ["--json", "-f", "--zone", zone, "-o", &name, id];
        let output = finish(cluster.spawn_client(&args)?).await?;
        event(&output, "done").with_context(|| format!("download {done} in {zone}"))?;
        assert_eq!(sha256(&cluster.path(&name))?, digest, "download {done} in {zone}");
    }
    Ok(0)
}

#[tokio::test]
async fn four_of_six_servers_killed_in_turn_with_repair_between_fail_no_download() -> anyhow::Result<()> {
    let Some(net) = Net::start(&["eu", "us"])? else { return Ok(()) };
    let mut cluster = fixture(&net, &["--repair-after", "10s"]).await?;
    // Enough for a download a second or two: the machine has other work.
    cluster.client_host.as_ref().context("a host")?.link.set(rate(160_000_000))?;
    let path = file(&cluster, "x.bin", ddm_testkit::seed(), 16 * MIB)?;
    let id = cluster.publish(&path, &["--zones", "eu,us", "--replicas", "2", "--wait=60s"]).await?;
    let digest = sha256(&path)?;
    let holders = assigned(&cluster, &id).await?;
    let [a, b, c, d] = holders[..] else { panic!("two holders in each zone: {holders:?}") };
    assert!(EU.contains(&b) && US.contains(&c));
    let victims = [a, c, b, d].map(|n| (n, cluster.take_server(n)));
    let (cluster, stop) = (&cluster, tokio_util::sync::CancellationToken::new());
    let kills = async {
        let _stop = stop.clone().drop_guard();
        let mut killed = Vec::new();
        for (n, victim) in victims {
            victim?.kill().await?;
            killed.push(n);
            println!("killed server {n}");
            // In each zone there is a repair between its two kills; meanwhile the first of the other zone may be killed.
            if n == c || (n == a && ddm_testkit::full()) {
                eventually("two replicas in each zone again", Duration::from_secs(90), async || {
                    let complete = complete(cluster, &id).await?;
                    // A killed one counts until its lease is over.
                    let alive = complete.iter().filter(|n| !killed.contains(n));
                    Ok((alive.count() == 4).then_some(()))
                })
                .await?;
            }
            tokio::time::sleep(Duration::from_secs(4)).await;
        }
        anyhow::Ok(())
    };
    let [eu, us] = ["eu", "us"].map(|zone| Repeated { zone, id: &id, digest: &digest });
    let (killed, eu, us) =
        tokio::join!(kills, download_on_and_on(cluster, &eu, &stop), download_on_and_on(cluster, &us, &stop));
    let (eu, us) = (eu?, us?);
    killed?;
    println!("{eu} downloads in eu and {us} in us, none failed");
    assert!(eu >= 5 && us >= 5, "{eu} and {us} downloads");
    Ok(())
}

#[tokio::test]
async fn what_all_servers_fetch_across_a_link_keeps_to_its_limit() -> anyhow::Result<()> {
    const LIMIT: u64 = 6_000_000;
    const FILES: u64 = 16;
    const SIZE: u64 = 7 * MIB;
    let Some(net) = Net::start(&["eu", "us"])? else { return Ok(()) };
    let cluster = fixture(&net, &["--zone-link", &format!("eu:us={LIMIT}")]).await?;
    let mut ids = Vec::new();
    let started = Instant::now();
    let mut seen = vec![(Duration::ZERO, net.bytes("eu", "us")?)];
    // The time after it was counted: it may have taken a while.
    let crossed = |seen: &mut Vec<(Duration, u64)>| {
        let bytes = net.bytes("eu", "us")?;
        seen.push((started.elapsed(), bytes));
        anyhow::Ok(())
    };
    for n in 0..FILES {
        let path = file(&cluster, &format!("{n}.bin"), n, SIZE)?;
        ids.push(cluster.publish(&path, &["--zones", "eu,us", "--replicas", "1", "--quorum", "1"]).await?);
        crossed(&mut seen)?;
    }
    let all = async |seen: &mut Vec<(Duration, u64)>| {
        crossed(seen)?;
        for id in &ids {
            if status(&cluster, id).await?["replicated"] != true {
                return Ok(None);
            }
        }
        anyhow::Ok(Some(()))
    };
    let deadline = started + Duration::from_secs(90);
    while all(&mut seen).await?.is_none() {
        anyhow::ensure!(Instant::now() < deadline, "not replicated in time");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // Headers are 4 % of what passes, and the receive buffers of all connections fill before a process reads from them.
    let (headers, buffers) = (1.04, 8.0 * MIB as f64);
    let share = |(at, bytes): &(Duration, u64)| {
        let payload = (bytes - seen[0].1) as f64 / headers;
        (payload - buffers) / (at.as_secs_f64() * LIMIT as f64)
    };
    let most = seen[1..].iter().map(share).fold(0.0, f64::max);
    let at = |share: f64| {
        seen.iter().find(|(_, bytes)| (*bytes - seen[0].1) as f64 >= share * (FILES * SIZE) as f64).unwrap()
    };
    // From when the buffers are full, over long enough that they do not show.
    let ((from, before), (until, after)) = (at(0.3), at(0.85));
    let mean = (after - before) as f64 / headers / (*until - *from).as_secs_f64() / LIMIT as f64;
    println!("{mean:.3} of the limit from {from:?} to {until:?}, {most:.3} beyond buffers at most");
    assert!((0.8..=1.1).contains(&mean) && most <= 1.1, "{mean} of the limit, {most} at most: {seen:?}");
    Ok(())
}
