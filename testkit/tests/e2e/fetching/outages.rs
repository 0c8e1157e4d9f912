//! An info-server that is away while a client takes chunks (S53, P6).

use std::time::Duration;

use ddm_testkit::{
    cluster::{Cluster, Plan, events, finish},
    process::eventually,
};
use tokio::time::sleep;
use wire::Digest;

use super::{
    fixture::{SIZE, STEP_TIMEOUT, fetched, job, near, noted, until_noted},
    web::Web,
};
use crate::content::{MIB, bytes, event, number};

#[tokio::test]
async fn an_info_server_that_is_killed_and_comes_back_costs_time_only() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(&near(&["eu", "eu"])).await?;
    let web = Web::serve(bytes(1, SIZE)).await?;
    web.limit(2 * MIB);
    let client = cluster.spawn_client(&["--json", &web.url("plain", "x.bin")])?;
    // Back at once, then after longer than a lease lasts and a stream may be silent.
    for (had, away) in [(4, Duration::ZERO), (8, Duration::from_secs(16))] {
        until_noted(&cluster.path("x.bin.part"), had).await?;
        cluster.info.take().unwrap().kill().await?;
        sleep(away).await;
        cluster.restart_info().await?;
    }
    web.limit(0);
    let output = finish(client).await?;
    let done = event(&output, "done")?;
    assert_eq!(done["checked"], "sampled", "{done}");
    assert!(std::fs::read(cluster.path("x.bin"))? == bytes(1, SIZE));
    assert!(!events(&output)?.iter().any(|event| event["event"] == "again"), "it is the same job: {output:?}");
    // What was under way at a kill may be fetched again, nothing else.
    assert!(web.sent() <= SIZE + 12 * MIB, "{} bytes left the origin", web.sent());
    Ok(())
}

/// Two workers that have all chunks, a client behind slow proxies that has few of them, and no info-server any more.
async fn left_alone(more: &[&str]) -> anyhow::Result<(Cluster, tokio::process::Child)> {
    let mut cluster = Cluster::start(&Plan { proxied: true, ..near(&["eu", "eu"]) }).await?;
    let web = Web::serve(bytes(1, SIZE)).await?;
    for n in 0..2 {
        cluster.proxy(n)?.limit(Some(1 << 19));
    }
    let url = web.url("plain", "x.bin");
    let args: Vec<&str> = ["--json", &url].into_iter().chain(more.iter().copied()).collect();
    let client = cluster.spawn_client(&args)?;
    let id = job(&cluster).await?["id"].as_str().unwrap().to_owned();
    fetched(&cluster, &id, SIZE / MIB).await?;
    until_noted(&cluster.path("x.bin.part"), 2).await?;
    cluster.info.take().unwrap().kill().await?;
    assert!(noted(&cluster.path("x.bin.part")) < SIZE / MIB / 2, "the client is not far yet");
    for n in 0..2 {
        cluster.proxy(n)?.limit(Some(2 << 20));
    }
    Ok((cluster, client))
}

#[tokio::test]
async fn chunks_that_are_known_are_taken_while_the_info_server_stays_away() -> anyhow::Result<()> {
    let sha256 = Digest::of(&bytes(1, SIZE)).to_string();
    let (cluster, client) = left_alone(&["--sha256", &sha256]).await?;
    let output = finish(client).await?;
    let done = event(&output, "done")?;
    assert_eq!(done["checked"], "sha256");
    assert!(std::fs::read(cluster.path("x.bin"))? == bytes(1, SIZE));
    let sources = done["report"]["sources"].as_array().unwrap();
    assert_eq!(sources.iter().filter(|source| number(&source["bytes"]) > 0).count(), 2, "{done}");
    Ok(())
}

#[tokio::test]
async fn without_an_info_server_and_a_sha256_the_file_says_that_it_is_unchecked() -> anyhow::Result<()> {
    let (cluster, client) = left_alone(&["--wait", "5s"]).await?;
    let output = finish(client).await?;
    let done = event(&output, "done")?;
    assert!(["sampled", "unchecked"].contains(&done["checked"].as_str().unwrap()), "{done}");
    assert_eq!(done["checked"] == "unchecked", done["unchecked_reason"].is_string(), "{done}");
    assert!(std::fs::read(cluster.path("x.bin"))? == bytes(1, SIZE));
    Ok(())
}

#[tokio::test]
async fn a_client_that_is_left_without_anybody_says_so_and_goes_on_later() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(&near(&["eu", "eu"])).await?;
    let web = Web::serve(bytes(1, SIZE)).await?;
    web.limit(2 * MIB);
    let url = web.url("plain", "x.bin");
    let client = cluster.spawn_client(&["--json", "--wait", "4s", &url])?;
    until_noted(&cluster.path("x.bin.part"), 6).await?;
    cluster.info.take().unwrap().kill().await?;
    for n in 0..2 {
        cluster.take_server(n)?.kill().await?;
    }
    let output = finish(client).await?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("start again to resume") && !cluster.path("x.bin").exists(), "{said}");
    let had = noted(&cluster.path("x.bin.part"));
    cluster.restart_info().await?;
    for n in 0..2 {
        cluster.restart_server(n).await?;
    }
    eventually("both are listed", STEP_TIMEOUT, async || Ok((cluster.server_ids().await?.len() == 2).then_some(())))
        .await?;
    web.limit(0);
    let done = event(&cluster.run_client(&["--json", &url]).await?, "done")?;
    assert!(std::fs::read(cluster.path("x.bin"))? == bytes(1, SIZE));
    assert!(number(&done["report"]["resumed"]) >= had * MIB, "{had} chunks were there: {done}");
    Ok(())
}
