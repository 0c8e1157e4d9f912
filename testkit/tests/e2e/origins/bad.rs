//! F60, P10: origins that change, refuse, pause and lie. The result is one version, or a failure with a name.

use std::time::Duration;

use ddm_testkit::{
    cluster::Cluster,
    rogue::{Behaviour, Rogue},
};
use reqwest::StatusCode;
use serde_json::json;
use wire::{Digest, FileId};

use super::fixture::{assemble, begin, done, job, plan, refusal, start, throttled};
use crate::content::{MIB, bytes, number};

#[tokio::test]
async fn what_cannot_be_fetched_in_parts_is_said_with_its_reason() -> anyhow::Result<()> {
    let cluster = Cluster::start(&plan(&["eu"])).await?;
    let origin = Rogue::start(FileId::new(), bytes(60, 10 * MIB).into()).await?;
    let header = |name, value: Option<&str>| Behaviour::Header { name, value: value.map(str::to_owned) };
    for (behaviour, direct) in [
        (Behaviour::WholeFile, "no-ranges"),
        (header("ETag", Some("W/\"weak\"")), "no-validator"),
        (header("ETag", None), "no-validator"),
    ] {
        origin.set(behaviour.clone());
        let (status, info) = start(&cluster, &json!({ "url": origin.url() })).await?;
        assert_eq!((status, &info["state"]), (StatusCode::OK, &json!("direct")), "{behaviour:?}: {info}");
        assert_eq!(info["reason"], direct, "{behaviour:?}");
    }
    for (behaviour, reason) in [
        (Behaviour::Status { code: 404, retry_after: None }, "refused"),
        (Behaviour::Status { code: 429, retry_after: Some(1) }, "busy"),
        (Behaviour::Rubbish, "garbled"),
        (Behaviour::Redirect(origin.url()), "redirects"),
        (Behaviour::WrongRange, "garbled"),
    ] {
        origin.set(behaviour.clone());
        assert_eq!(refusal(&cluster, origin.url().as_str()).await?, reason, "{behaviour:?}");
    }
    // A client that is sent to a direct download receives the time as well.
    origin.set(Behaviour::Status { code: 503, retry_after: Some(7) });
    let (_, answer) = start(&cluster, &json!({ "url": origin.url() })).await?;
    assert_eq!((&answer["reason"], &answer["retry_after_s"]), (&json!("busy"), &json!(7)), "{answer}");
    // With a SHA-256 a weak tag does no harm: what is not that content is no result.
    let content = bytes(60, 10 * MIB);
    origin.set(header("ETag", Some("W/\"weak\"")));
    let sha256 = Digest::of(&content);
    let id = begin(&cluster, &json!({ "url": origin.url(), "sha256": sha256 })).await?;
    let info = done(&cluster, &id).await?;
    assert_eq!(info["checked"], "sha256");
    assert!(assemble(&cluster, &info).await? == content);
    Ok(())
}

#[tokio::test]
async fn a_content_that_changes_midway_fails_by_its_name() -> anyhow::Result<()> {
    let cluster = Cluster::start(&plan(&["eu", "eu"])).await?;
    for other_size in [16 * MIB, 17 * MIB] {
        let (origin, _) = throttled(61, 16 * MIB, 4 * MIB).await?;
        let (address, url) = (origin.address(), origin.url());
        let id = begin(&cluster, &json!({ "url": url })).await?;
        job(&cluster, &id, "some is fetched", |info| number(&info["fetched"]) >= 2).await?;
        origin.kill().await;
        let changed = Rogue::start_at(address, FileId::new(), bytes(62, other_size).into()).await?;
        let info = job(&cluster, &id, "it fails", |info| info["state"] == "failed").await?;
        assert_eq!(info["reason"], "changed");
        drop(changed);
    }
    Ok(())
}

#[tokio::test]
async fn an_origin_that_asks_for_a_pause_gets_it_and_is_asked_again() -> anyhow::Result<()> {
    let cluster = Cluster::start(&plan(&["eu", "eu"])).await?;
    let (origin, content) = throttled(63, 16 * MIB, 6 * MIB).await?;
    let id = begin(&cluster, &json!({ "url": origin.url() })).await?;
    job(&cluster, &id, "some is fetched", |info| number(&info["fetched"]) >= 2).await?;
    origin.set(Behaviour::Status { code: 503, retry_after: Some(2) });
    let before = origin.asked().len();
    tokio::time::sleep(Duration::from_secs(4)).await;
    let asked = origin.asked().len() - before;
    assert!(asked <= 16, "asked {asked} times in 4 s");
    origin.set(Behaviour::Honest);
    let info = done(&cluster, &id).await?;
    assert!(assemble(&cluster, &info).await? == content);
    Ok(())
}

#[tokio::test]
async fn the_limit_of_an_origin_on_connections_costs_little_time_and_few_requests() -> anyhow::Result<()> {
    let cluster = Cluster::start(&plan(&["eu", "eu", "us"])).await?;
    let content = bytes(65, 24 * MIB);
    for connections in [1, 4] {
        // One of its own: a job for a URL that was fetched before first waits for those who have its chunks.
        let origin = Rogue::start(FileId::new(), content.clone().into()).await?;
        origin.set(Behaviour::OneAtATime { rate: 6 * MIB });
        let begun = std::time::Instant::now();
        let id = begin(&cluster, &json!({ "url": origin.url(), "connections": connections })).await?;
        let info = done(&cluster, &id).await?;
        let (took, asked) = (begun.elapsed(), origin.asked().len());
        println!("{connections} connections: {took:?}, {asked} requests");
        assert!(assemble(&cluster, &info).await? == content);
        // One connection alone takes 4 s.
        assert!(took < Duration::from_secs(15), "{took:?}");
        assert!(asked < 120, "{asked} requests");
        let left = cluster.request(reqwest::Method::DELETE, &format!("/v1/jobs/{id}")).send().await?;
        left.error_for_status()?;
    }
    Ok(())
}

/// Wrong bytes that one worker alone gets are another row's: [`super::faults`].
#[tokio::test]
async fn wrong_bytes_that_everybody_gets_are_a_named_failure_and_no_result() -> anyhow::Result<()> {
    let cluster = Cluster::start(&plan(&["eu", "eu", "eu"])).await?;
    let (origin, content) = throttled(64, 16 * MIB, 16 * MIB).await?;
    // Every range comes with a wrong bit in each MiB, under the right tag: all agree about what is not the file.
    origin.set(Behaviour::FlipBit { every: MIB });
    let sha256 = Digest::of(&content);
    let id = begin(&cluster, &json!({ "url": origin.url(), "sha256": sha256 })).await?;
    let over = |info: &serde_json::Value| info["state"] == "done" || info["state"] == "failed";
    let mut info = job(&cluster, &id, "it is over", over).await?;
    if info["state"] == "done" {
        // The requester finds that the whole is another one.
        let got = assemble(&cluster, &info).await?;
        assert!(got != content);
        let progress = json!({ "runs": [], "sha256": Digest::of(&got) });
        let path = format!("/v1/jobs/{id}/progress");
        let response = cluster.request(reqwest::Method::PUT, &path).json(&progress).send().await?;
        assert!(response.status().is_success(), "{}", response.status());
        info = job(&cluster, &id, "it is given up", |info| info["state"] == "failed").await?;
    }
    assert!(info["reason"].is_string(), "{info}");
    // Nor does a client that asks for it write it down.
    let (url, wanted) = (origin.url().to_string(), sha256.to_string());
    let output = cluster.run_client(&["--json", "--sha256", &wanted, "-o", "x.bin", &url]).await?;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(!cluster.path("x.bin").exists());
    Ok(())
}
