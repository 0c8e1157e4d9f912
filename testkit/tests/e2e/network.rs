//! P3, F1, F11, F15–F17, F21: what bad networks and dead servers cost. The bounds are the promised ones, for any machine; what is
//! usual is far below.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use ddm_testkit::{
    cluster::{Cluster, Plan, STEP_TIMEOUT, finish},
    netns::{Net, Shape},
    process::eventually,
    proxy::{Direction, Proxy},
    window,
};
use rustix::process::Signal;

use crate::{
    content::{MIB, event, file, number, sha256, source},
    downloads::replicated,
};

const RATE: u32 = 4 << 20;
const SIZE: u64 = 32 * MIB;
/// Time limit for a fresh download to work after healing.
const HEALING_LIMIT: Duration = Duration::from_secs(10);

/// A file on servers in these zones, each behind a proxy; its id and digest.
async fn fixture(zones: &[&'static str], size: u64) -> anyhow::Result<(Cluster, String, String)> {
    let cluster = Cluster::start(&Plan { proxied: true, ..Plan::zones(zones) }).await?;
    let path = file(&cluster, "x.bin", ddm_testkit::seed(), size)?;
    let id = cluster.publish(&path, &[]).await?;
    replicated(&cluster, &id, zones.len() as u64).await?;
    let digest = sha256(&path)?;
    Ok((cluster, id, digest))
}

/// Downloads to `got.bin`; how long it took.
async fn download(cluster: &Cluster, id: &str, digest: &str) -> anyhow::Result<Duration> {
    let started = Instant::now();
    event(&cluster.run_client(&["--json", "-f", "-o", "got.bin", id]).await?, "done")?;
    assert_eq!(sha256(&cluster.path("got.bin"))?, digest);
    Ok(started.elapsed())
}

/// Returns the time beyond what the remaining bytes need, when a third is downloaded and one of two servers is lost.
async fn cost_of(lose: impl AsyncFnOnce(&mut Cluster) -> anyhow::Result<()>) -> anyhow::Result<Duration> {
    let (mut cluster, id, digest) = fixture(&["eu", "eu"], SIZE).await?;
    let passed =
        |cluster: &Cluster| -> anyhow::Result<u64> { Ok(cluster.proxy(0)?.passed() + cluster.proxy(1)?.passed()) };
    for n in 0..2 {
        cluster.proxy(n)?.limit(Some(RATE));
    }
    let before = passed(&cluster)?;
    let client = cluster.spawn_client(&["--json", "-o", "got.bin", &id])?;
    eventually("a third is there", STEP_TIMEOUT, async || Ok((passed(&cluster)? > before + SIZE / 3).then_some(())))
        .await?;
    let left = SIZE.saturating_sub(passed(&cluster)? - before);
    let lost = Instant::now();
    lose(&mut cluster).await?;
    event(&finish(client).await?, "done")?;
    let took = lost.elapsed();
    assert_eq!(sha256(&cluster.path("got.bin"))?, digest);
    let cost = took.saturating_sub(Duration::from_secs_f64(left as f64 / f64::from(RATE)));
    println!("cost {cost:?}");
    Ok(cost)
}

#[tokio::test]
async fn a_killed_server_costs_at_most_five_seconds() -> anyhow::Result<()> {
    let cost = cost_of(async |cluster| cluster.take_server(0)?.kill().await).await?;
    assert!(cost <= Duration::from_secs(5), "{cost:?}");
    Ok(())
}

#[tokio::test]
async fn a_paused_server_costs_at_most_ten_seconds() -> anyhow::Result<()> {
    let cost = cost_of(async |cluster| cluster.servers[0].process.as_ref().unwrap().signal(Signal::STOP)).await?;
    assert!(cost <= Duration::from_secs(10), "{cost:?}");
    Ok(())
}

#[tokio::test]
async fn a_server_whose_answers_vanish_costs_at_most_ten_seconds() -> anyhow::Result<()> {
    for direction in [Direction::Down, Direction::Up] {
        let cost = cost_of(async |cluster| {
            cluster.proxy(0)?.shape(direction, |line| line.hole = Some(0));
            Ok(())
        });
        let cost = cost.await?;
        assert!(cost <= Duration::from_secs(10), "{direction:?}: {cost:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_fast_server_silent_for_four_seconds_costs_at_most_six() -> anyhow::Result<()> {
    let (cluster, id, digest) = fixture(&["eu", "eu"], 2 * SIZE).await?;
    cluster.proxy(0)?.limit(Some(3 * RATE));
    cluster.proxy(1)?.limit(Some(RATE / 4));
    let without = download(&cluster, &id, &digest).await?;
    // Healed, a silent connection is the same as before; one that was cut is gone.
    let silent = |proxy: &Proxy, on: bool| proxy.shape(Direction::Down, |line| line.hole = on.then_some(0));
    for (name, set) in [("silent", &silent as &dyn Fn(&Proxy, bool)), ("cut", &Proxy::cut)] {
        let proxy = cluster.proxy(0)?;
        let before = proxy.passed();
        let pause = async {
            eventually("it gives", STEP_TIMEOUT, async || Ok((proxy.passed() > before + SIZE / 2).then_some(())))
                .await?;
            set(proxy, true);
            tokio::time::sleep(Duration::from_secs(4)).await;
            set(proxy, false);
            anyhow::Ok(())
        };
        let (took, ()) = tokio::try_join!(download(&cluster, &id, &digest), pause)?;
        println!("{name}: {took:?}, without {without:?}");
        assert!(took <= without + Duration::from_secs(6), "{name}: {took:?}, without a pause {without:?}");
    }
    Ok(())
}

#[tokio::test]
async fn one_slow_replica_costs_at_most_half_the_time_without_it() -> anyhow::Result<()> {
    let (cluster, id, digest) = fixture(&["eu", "eu"], 40 * MIB).await?;
    cluster.proxy(0)?.limit(Some(2 * RATE));
    cluster.proxy(1)?.cut(true);
    let without = download(&cluster, &id, &digest).await?;
    cluster.proxy(1)?.cut(false);
    // 1 Mbit/s, and 100 bytes a second.
    for rate in [125_000, 100] {
        cluster.proxy(1)?.limit(Some(rate));
        let with = download(&cluster, &id, &digest).await?;
        println!("{rate} B/s: {with:?}, without {without:?}");
        assert!(with <= without.mul_f64(1.5), "with a server of {rate} B/s {with:?}, without it {without:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_round_trip_of_600_ms_costs_round_trips_and_no_failures() -> anyhow::Result<()> {
    let (cluster, id, digest) = fixture(&["eu", "us"], SIZE).await?;
    for n in 0..2 {
        cluster.proxy(n)?.round_trip(Duration::from_millis(600));
    }
    let done = event(&cluster.run_client(&["--json", "-o", "got.bin", &id]).await?, "done")?;
    assert_eq!(sha256(&cluster.path("got.bin"))?, digest);
    for server in &cluster.servers {
        assert_eq!(number(&source(&done, &server.id)?["failures"]), 0, "{done}");
    }
    assert!(done["report"]["elapsed"].as_f64().unwrap() < 20.0, "{done}");
    Ok(())
}

#[tokio::test]
async fn faults_of_every_kind_at_once_still_end_with_the_right_file() -> anyhow::Result<()> {
    let (cluster, id, digest) = fixture(&["eu", "eu", "us"], SIZE).await?;
    for n in 0..3 {
        cluster.proxy(n)?.round_trip(Duration::from_millis(40));
        cluster.proxy(n)?.limit(Some(2 * RATE));
    }
    cluster.proxy(0)?.shape(Direction::Down, |line| line.duplicate = std::num::NonZeroU64::new(3 * MIB));
    cluster.proxy(1)?.shape(Direction::Down, |line| line.reset = Some(5 * MIB / 2));
    cluster.proxy(2)?.shape(Direction::Down, |line| line.truncate = Some(7 * MIB / 2));
    download(&cluster, &id, &digest).await?;
    Ok(())
}

/// Counts the holders that serve bytes for the token of a details query.
async fn honoured(cluster: &Cluster, details: &serde_json::Value) -> anyhow::Result<usize> {
    let token = details["download"]["token"].as_str().context("a token")?;
    let mut honoured = 0;
    for location in details["locations"].as_array().context("locations")? {
        let url = location["url"].as_str().context("a url")?;
        honoured += usize::from(cluster.http.get(url).bearer_auth(token).send().await?.status().is_success());
    }
    Ok(honoured)
}

#[tokio::test]
async fn a_zone_cut_off_from_the_info_server_tries_at_most_twice_a_second_and_comes_back() -> anyhow::Result<()> {
    let plan = Plan { info_proxied: true, ..Plan::zones(&["eu", "eu"]) };
    let cluster = Cluster::start(&plan).await?;
    let path = file(&cluster, "x.bin", ddm_testkit::seed(), 3 * MIB)?;
    let id = cluster.publish(&path, &[]).await?;
    let details = cluster.details(&id).await?;
    assert_eq!(honoured(&cluster, &details).await?, plan.zones.len());
    let proxy = cluster.info_proxy.as_ref().context("a proxy")?;
    proxy.cut(true);
    // What breaks at once is tried again at once, by every one that was waiting.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (before, span) = (proxy.accepted(), window(Duration::from_secs(10), Duration::from_secs(60)));
    tokio::time::sleep(span).await;
    let tries = (proxy.accepted() - before) as f64 / span.as_secs_f64() / plan.zones.len() as f64;
    println!("{tries} tries a second and server");
    // Known tokens go on being honoured.
    assert_eq!(honoured(&cluster, &details).await?, plan.zones.len());
    proxy.cut(false);
    let healed = Instant::now();
    eventually("a fresh download works", HEALING_LIMIT, async || {
        let output = cluster.run_client(&["--json", "-f", "-o", "got.bin", "--wait", "2s", &id]).await?;
        Ok(output.status.success().then_some(()))
    })
    .await?;
    assert!(healed.elapsed() <= HEALING_LIMIT, "{:?}", healed.elapsed());
    assert!(tries <= 2.0, "{tries} tries a second and server");
    Ok(())
}

#[tokio::test]
async fn a_client_tries_servers_that_refuse_at_most_twice_a_second_each() -> anyhow::Result<()> {
    let (cluster, id, _) = fixture(&["eu", "eu"], 4 * MIB).await?;
    let before: Vec<u64> = (0..2).map(|n| cluster.proxy(n).unwrap().accepted()).collect();
    for n in 0..2 {
        cluster.proxy(n)?.cut(true);
    }
    let wait = window(Duration::from_secs(8), Duration::from_secs(60));
    let (started, limit) = (Instant::now(), format!("{}s", wait.as_secs()));
    let output = cluster.run_client(&["--json", "-o", "got.bin", "--wait", &limit, &id]).await?;
    assert_eq!(output.status.code(), Some(1));
    let seconds = started.elapsed().as_secs_f64();
    for (n, before) in before.into_iter().enumerate() {
        // The info-server looks whether it reaches them, too: once in a while.
        let tries = (cluster.proxy(n)?.accepted() - before) as f64;
        assert!(tries <= 2.0 * seconds + 4.0, "{tries} tries in {seconds} s");
    }
    Ok(())
}

/// A system on hosts of its own, and a file on all its servers.
async fn spread(
    net: &std::sync::Arc<Net>,
    zones: &[&'static str],
    size: u64,
) -> anyhow::Result<(Cluster, String, String)> {
    let cluster = Cluster::start(&Plan { net: Some(net.clone()), ..Plan::zones(zones) }).await?;
    let path = file(&cluster, "x.bin", ddm_testkit::seed(), size)?;
    let id = cluster.publish(&path, &[]).await?;
    replicated(&cluster, &id, zones.len() as u64).await?;
    let digest = sha256(&path)?;
    Ok((cluster, id, digest))
}

#[tokio::test]
async fn lost_packets_cost_time_only() -> anyhow::Result<()> {
    let Some(net) = Net::start(&["eu", "us"])? else { return Ok(()) };
    let (cluster, id, digest) = spread(&net, &["eu", "us"], SIZE).await?;
    let link = cluster.client_host.as_ref().context("a host")?.link.clone();
    // At a quarter TCP itself waits for seconds at a time, whatever the size.
    let small = file(&cluster, "small.bin", ddm_testkit::seed(), MIB)?;
    let (small_id, small_digest) = (cluster.publish(&small, &[]).await?, sha256(&small)?);
    replicated(&cluster, &small_id, 2).await?;
    for (loss_percent, seconds) in [(1, 15), (5, 30), (25, 180)] {
        link.set(Shape { loss_percent, ..Shape::default() })?;
        let (id, digest) = if loss_percent < 25 { (&id, &digest) } else { (&small_id, &small_digest) };
        let took = download(&cluster, id, digest).await?;
        println!("{loss_percent} %: {took:?}");
        assert!(took <= Duration::from_secs(seconds), "{loss_percent} %: {took:?}");
    }
    link.heal()?;
    assert!(download(&cluster, &id, &digest).await? <= HEALING_LIMIT);
    Ok(())
}

#[tokio::test]
async fn a_zone_cut_off_midway_costs_time_only_and_is_used_again_when_it_is_back() -> anyhow::Result<()> {
    let Some(net) = Net::start(&["eu", "us"])? else { return Ok(()) };
    let (cluster, id, digest) = spread(&net, &["eu", "us"], SIZE).await?;
    let before = net.bytes("us", "eu")?;
    for zone in ["eu", "us"] {
        net.link(zone)?.set(Shape { rate: Some(40_000_000), ..Shape::default() })?;
    }
    let client = cluster.spawn_client(&["--json", "--zone", "us", "-o", "got.bin", &id])?;
    eventually("the far zone is giving", STEP_TIMEOUT, async || {
        Ok((net.bytes("us", "eu")? > before + SIZE / 4).then_some(()))
    })
    .await?;
    net.link("us")?.set(Shape::CUT)?;
    let cut = Instant::now();
    let done = event(&finish(client).await?, "done")?;
    assert_eq!(sha256(&cluster.path("got.bin"))?, digest);
    assert!(number(&source(&done, &cluster.servers[0].id)?["bytes"]) > 0, "{done}");
    assert!(cut.elapsed() < Duration::from_secs(20), "{:?}", cut.elapsed());

    net.link("us")?.heal()?;
    let far = &cluster.servers[1].id;
    eventually("the far zone gives again", HEALING_LIMIT, async || {
        let output = cluster.run_client(&["--json", "-f", "--zone", "us", "-o", "got.bin", &id]).await?;
        let done = event(&output, "done")?;
        Ok(source(&done, far).is_ok_and(|source| number(&source["bytes"]) > 0).then_some(()))
    })
    .await?;
    assert_eq!(sha256(&cluster.path("got.bin"))?, digest);
    Ok(())
}
