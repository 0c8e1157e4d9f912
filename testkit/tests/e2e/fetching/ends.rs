//! A client that ends early: what becomes of its job, and what it goes on with (S30, S32, P4).

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use anyhow::bail;
use bytes::Bytes;
use ddm_testkit::{
    cluster::{ADMIN, Cluster, finish},
    process::eventually,
};
use futures::{Stream, StreamExt as _};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::{
    fixture::{SIZE, fetched, job, near, near_with, noted, signal, state, until_noted},
    web::Web,
};
use crate::{
    content::{MIB, bytes, event, number},
    standing::empty,
};

#[tokio::test]
async fn a_killed_client_goes_on_and_fetches_no_verified_chunk_again() -> anyhow::Result<()> {
    let cluster = Cluster::start(&near(&["eu", "eu"])).await?;
    let web = Web::serve(bytes(1, SIZE)).await?;
    web.limit(3 << 20);
    let url = web.url("plain", "x.bin");
    let mut client = cluster.spawn_client(&["--json", &url])?;
    let had = until_noted(&cluster.path("x.bin.part"), 6).await?;
    client.kill().await?;
    // Still slow enough that little is on its way when a span is cut.
    web.limit(8 * MIB);
    let output = cluster.run_client(&["--json", &url]).await?;
    let done = event(&output, "done")?;
    assert!(std::fs::read(cluster.path("x.bin"))? == bytes(1, SIZE));
    assert!(number(&done["report"]["resumed"]) >= had * MIB, "{had} chunks were there: {done}");
    Ok(())
}

#[tokio::test]
async fn an_open_stream_of_a_job_ends_with_the_log_in_that_opened_it() -> anyhow::Result<()> {
    let cluster = Cluster::start(&near_with(&["eu"], &["--asker-grace", "4s"])).await?;
    let web = Web::serve(bytes(1, 64 * MIB)).await?;
    web.limit(MIB);
    let (mine, other) = (cluster.log_in(ADMIN).await?, cluster.log_in(ADMIN).await?);
    let jobs = format!("{}/v1/jobs", cluster.info_url());
    let new = json!({ "url": web.url("plain", "x.bin") });
    let asked = cluster.http.post(&jobs).bearer_auth(&mine).json(&new).send().await?.error_for_status()?;
    let id = asked.json::<Value>().await?["id"].as_str().unwrap().to_owned();
    let open = async |token: &str| {
        let asked = cluster.http.get(format!("{jobs}/{id}/events")).bearer_auth(token).send().await?;
        anyhow::Ok(asked.error_for_status()?.bytes_stream())
    };
    let (mut ended, mut stands) = (open(&mine).await?, open(&other).await?);
    assert!(ended.next().await.is_some_and(|part| part.is_ok()), "it is open");
    let gone = cluster.http.delete(format!("{}/v1/sessions/current", cluster.info_url())).bearer_auth(&mine);
    assert!(gone.send().await?.status().is_success());
    let read = async |stream: &mut (dyn Stream<Item = reqwest::Result<Bytes>> + Unpin)| {
        while let Some(part) = stream.next().await {
            part?;
        }
        reqwest::Result::Ok(())
    };
    tokio::select! {
        ended = tokio::time::timeout(Duration::from_secs(15), read(&mut ended)) => ended??,
        _ = read(&mut stands) => bail!("the stream of another log-in ended"),
    }
    Ok(())
}

#[tokio::test]
async fn the_job_of_a_killed_client_stops_within_its_grace_and_its_workers_keep_nothing() -> anyhow::Result<()> {
    let grace = Duration::from_secs(4);
    let cluster = Cluster::start(&near_with(&["eu", "eu"], &["--asker-grace", "4s"])).await?;
    let web = Web::serve(bytes(1, 64 * MIB)).await?;
    web.limit(MIB);
    let mut client = cluster.spawn_client(&["--json", &web.url("plain", "x.bin")])?;
    let id = job(&cluster).await?["id"].as_str().unwrap().to_owned();
    fetched(&cluster, &id, 2).await?;
    client.kill().await?;
    let killed = Instant::now();
    state(&cluster, &id, "stopped").await?;
    empty(&cluster, 0..cluster.servers.len()).await?;
    let took = killed.elapsed();
    // It was heard of a second before at most. What is told then takes a moment to be done.
    assert!(took >= grace - Duration::from_secs(2) && took <= grace + Duration::from_secs(8), "{took:?}");
    left_alone(&web).await?;
    assert!(web.sent() < 32 * MIB && !cluster.path("x.bin").exists());
    Ok(())
}

/// The origin sends nothing more: no body is still being sent a second long.
async fn left_alone(web: &Web) -> anyhow::Result<()> {
    let last = Cell::new((web.sent(), Instant::now()));
    eventually("the origin is left alone", Duration::from_secs(20), async || {
        if web.sent() != last.get().0 {
            last.set((web.sent(), Instant::now()));
        }
        Ok((last.get().1.elapsed() > Duration::from_secs(1)).then_some(()))
    })
    .await
}

#[tokio::test]
async fn an_interrupted_client_leaves_at_once_and_goes_on_with_what_it_verified() -> anyhow::Result<()> {
    let cluster = Cluster::start(&near(&["eu", "eu"])).await?;
    let web = Web::serve(bytes(1, SIZE)).await?;
    web.limit(2 * MIB);
    let url = web.url("plain", "x.bin");
    for how in [Signal::INT, Signal::TERM] {
        let before = noted(&cluster.path("x.bin.part"));
        let client = cluster.spawn_client(&["--json", &url])?;
        until_noted(&cluster.path("x.bin.part"), before + 5).await?;
        let id = job(&cluster).await?["id"].as_str().unwrap().to_owned();
        signal(&client, how)?;
        let signalled = Instant::now();
        let output = finish(client).await?;
        assert_eq!(output.status.code(), Some(3), "{output:?}");
        assert!(signalled.elapsed() < Duration::from_secs(3), "{:?}", signalled.elapsed());
        let last = String::from_utf8(output.stdout)?.lines().last().unwrap_or_default().to_owned();
        assert_eq!(serde_json::from_str::<serde_json::Value>(&last)?["event"], "interrupted");
        assert!(!cluster.path("x.bin").exists());
        // Long before the grace that silent askers are given.
        let left = Instant::now();
        state(&cluster, &id, "stopped").await?;
        empty(&cluster, 0..cluster.servers.len()).await?;
        assert!(left.elapsed() < Duration::from_secs(10), "{:?}", left.elapsed());
    }
    left_alone(&web).await?;
    let (had, before) = (noted(&cluster.path("x.bin.part")) * MIB, web.sent());
    // Still slow enough that little is on its way when a span is cut.
    web.limit(8 * MIB);
    let output = cluster.run_client(&["--json", &url]).await?;
    let done = event(&output, "done")?;
    assert!(std::fs::read(cluster.path("x.bin"))? == bytes(1, SIZE));
    assert_eq!(number(&done["report"]["resumed"]), had, "{done}");
    assert!(had >= 10 * MIB, "{had} bytes were there");
    // The rest, the probe, what is fetched twice to compare, and what is on its way when a span is cut.
    let again = web.sent() - before;
    assert!(
        again <= SIZE - had + 3 * MIB + MIB / 2,
        "{again} bytes left the origin for {} that were missing",
        SIZE - had
    );
    Ok(())
}
