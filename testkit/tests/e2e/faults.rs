//! S13, S14, F1, F18–F20, P1: downloads on bad days.

use std::{num::NonZeroU64, time::Duration};

use ddm_testkit::{
    cluster::{Cluster, Plan, finish},
    process::eventually,
    proxy::{Fault, Proxy},
};
use serde_json::Value;

use crate::content::{MIB, event, file, has_event, number, sha256, source};

const RATE: u32 = 8 << 20;
const SIZE: u64 = 40 * MIB;

/// A file on two servers behind proxies, and its digest.
async fn fixture() -> anyhow::Result<(Cluster, String, String)> {
    let cluster = Cluster::start(&Plan { proxied: true, ..Plan::zones(&["eu", "eu"]) }).await?;
    let path = file(&cluster, "x.bin", 1, SIZE)?;
    let id = cluster.publish(&path, &[]).await?;
    eventually("both targets have reported", Duration::from_secs(30), async || {
        let details = cluster.get(&format!("/v1/files/{id}?grant=false")).await?;
        Ok((details["live_replicas"] == 2).then_some(()))
    })
    .await?;
    let digest = sha256(&path)?;
    Ok((cluster, id, digest))
}

fn proxy(cluster: &Cluster, n: usize) -> &Proxy {
    cluster.servers[n].proxy.as_ref().unwrap()
}

async fn download(cluster: &Cluster, id: &str, digest: &str) -> anyhow::Result<(std::process::Output, Value)> {
    let output = cluster.run_client(&["--json", "-o", "got.bin", id]).await?;
    let done = event(&output, "done")?;
    assert_eq!(sha256(&cluster.path("got.bin"))?, digest);
    Ok((output, done))
}

#[tokio::test]
async fn a_server_that_alters_bytes_is_named_and_its_bytes_never_stand_in_the_file() -> anyhow::Result<()> {
    let (cluster, id, digest) = fixture().await?;
    proxy(&cluster, 0).spoil(Fault::Flip(NonZeroU64::new(3 * MIB).unwrap()));
    let (output, done) = download(&cluster, &id, &digest).await?;
    let faulty = &cluster.servers[0].id;
    assert!(has_event(&output, "wrong-bytes", faulty)?, "{done}");
    assert_eq!(source(&done, faulty)?["outcome"]["state"], "dropped", "{done}");
    Ok(())
}

#[tokio::test]
async fn when_every_server_alters_bytes_nothing_stands_under_the_name() -> anyhow::Result<()> {
    let (cluster, id, _) = fixture().await?;
    for n in 0..2 {
        proxy(&cluster, n).spoil(Fault::Flip(NonZeroU64::new(MIB / 2).unwrap()));
    }
    let output = cluster.run_client(&["--json", "-o", "got.bin", "--wait", "2s", &id]).await?;
    assert_eq!(output.status.code(), Some(1));
    assert!(!cluster.path("got.bin").exists());
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(cluster.servers.iter().all(|server| error.contains(&server.id)), "{error}");
    Ok(())
}

#[tokio::test]
async fn a_flipped_bit_in_ten_megabytes_costs_a_chunk_and_not_the_file() -> anyhow::Result<()> {
    let (cluster, id, digest) = fixture().await?;
    proxy(&cluster, 1).spoil(Fault::Flip(NonZeroU64::new(10_000_000).unwrap()));
    let (_, done) = download(&cluster, &id, &digest).await?;
    assert!(number(&done["report"]["fetched"]) == SIZE, "{done}");
    Ok(())
}

#[tokio::test]
async fn a_server_killed_midway_costs_no_byte_and_the_switch_is_reported() -> anyhow::Result<()> {
    let (mut cluster, id, digest) = fixture().await?;
    for n in 0..2 {
        proxy(&cluster, n).limit(Some(RATE));
    }
    let before = proxy(&cluster, 0).passed();
    let client = cluster.spawn_client(&["--json", "-o", "got.bin", &id])?;
    eventually("the server is giving", Duration::from_secs(20), async || {
        Ok((proxy(&cluster, 0).passed() > before + 6 * MIB).then_some(()))
    })
    .await?;
    assert!(!cluster.path("got.bin").exists());
    cluster.take_server(0)?.kill().await?;
    let output = finish(client).await?;
    let done = event(&output, "done")?;
    assert_eq!(sha256(&cluster.path("got.bin"))?, digest);
    assert!(has_event(&output, "source-lost", &cluster.servers[0].id)?);
    assert!(number(&done["report"]["switches"]) > 0, "{done}");
    assert!(number(&done["report"]["wasted"]) <= (SIZE / 50).max(2 * MIB) + 8 * MIB, "{done}");
    Ok(())
}

#[tokio::test]
async fn resets_and_short_bodies_are_retried_elsewhere() -> anyhow::Result<()> {
    for fault in [Fault::Reset(700_000), Fault::Truncate(700_000)] {
        let (cluster, id, digest) = fixture().await?;
        proxy(&cluster, 0).spoil(fault);
        let (_, done) = download(&cluster, &id, &digest).await?;
        let spoilt = source(&done, &cluster.servers[0].id)?;
        assert!(number(&spoilt["failures"]) > 0, "{fault:?}: {done}");
        assert!(number(&spoilt["requests"]) < 200, "{fault:?}: {done}");
    }
    Ok(())
}

#[tokio::test]
async fn a_server_that_stops_giving_is_left_for_the_other() -> anyhow::Result<()> {
    let (cluster, id, digest) = fixture().await?;
    proxy(&cluster, 0).spoil(Fault::Stall(MIB / 2));
    let (_, done) = download(&cluster, &id, &digest).await?;
    assert!(done["report"]["elapsed"].as_f64().unwrap() < 10.0, "{done}");
    Ok(())
}
