//! Leases of a job: spans, owners, and expiry.

use std::time::Duration;

use ddm_testkit::process::eventually;
use futures::{StreamExt as _, TryStreamExt as _, future::join_all, stream};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use wire::Digest;

use super::fixture::{Origin, STEP_TIMEOUT, Worker, ask, id, info_server, job, span, work_on};
use crate::content::MIB;

#[tokio::test]
async fn two_workers_share_a_url_and_a_foreign_or_unknown_fence_is_refused() -> anyhow::Result<()> {
    let (cluster, origin) = (info_server(&[]).await?, Origin::start(12 * MIB).await?);
    let (one, two) = (Worker::enrol(&cluster, "fs-1", "eu").await?, Worker::enrol(&cluster, "fs-2", "us").await?);
    let (_, digests) = origin.digests();
    let info = job(&cluster, json!({ "url": origin.url(), "connections": 2 })).await?;
    let (id, file) = (id(&info)?, info["file"].as_str().unwrap().to_owned());
    assert_eq!((&info["state"], &info["chunks"], &info["name"]), (&json!("running"), &json!(12), &json!("image.iso")));

    let (first, second) = (one.claim(&cluster, &id).await?, two.claim(&cluster, &id).await?);
    assert!(span(&first).end <= span(&second).start, "{first} {second}");
    assert_eq!((&first["connections"], &first["purpose"], &first["file"]), (&json!(2), &json!("fetch"), &info["file"]));
    let n = span(&first).start;
    let chunk = [(n, digests[n as usize])];
    for (worker, fence) in [(&two, &first["fence"]), (&one, &json!(99))] {
        let (status, problem) = worker.report(&cluster, &id, fence, &chunk).await?;
        assert_eq!((status, &problem["type"]), (StatusCode::CONFLICT, &json!("urn:ddm:problem:stale-fence")));
    }
    let foreign = span(&second).start;
    let (status, _) = one.report(&cluster, &id, &first["fence"], &[(foreign, digests[0])]).await?;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "a chunk of another worker's span");

    let done = work_on(&cluster, &id, &[&one, &two], &digests).await?;
    assert_eq!((&done["fetched"], &done["checked"]), (&json!(12), &json!("sampled")), "{done}");
    assert_eq!(one.ask(&cluster, &id).await?.0, StatusCode::GONE, "nothing is left to do");

    // The chunks are where the workers said, for each requester.
    let details = cluster.get(&format!("/v1/files/{file}")).await?;
    let held: u64 = details["locations"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|l| l["runs"].as_array().unwrap().clone())
        .map(|run| run[1].as_u64().unwrap() - run[0].as_u64().unwrap())
        .sum();
    assert_eq!(held, 12, "{details}");
    assert!(details["download"]["token"].is_string(), "{details}");
    let manifest = cluster.get(&format!("/v1/files/{file}/manifest")).await?;
    let expected: Vec<Value> = digests.iter().map(|digest| json!(digest)).collect();
    assert_eq!((&manifest["chunks"], &manifest["root"]), (&json!(expected), &Value::Null));
    Ok(())
}

#[tokio::test]
async fn what_a_silent_worker_left_is_given_to_another_and_its_late_word_is_refused() -> anyhow::Result<()> {
    let (cluster, origin) = (info_server(&[]).await?, Origin::start(16 * MIB).await?);
    let (silent, other) = (Worker::enrol(&cluster, "fs-1", "eu").await?, Worker::enrol(&cluster, "fs-2", "eu").await?);
    let (_, digests) = origin.digests();
    let id = id(&job(&cluster, json!({ "url": origin.url() })).await?)?;
    let lost = silent.claim(&cluster, &id).await?;
    let info = work_on(&cluster, &id, &[&other], &digests).await?;
    assert_eq!(info["fetched"], 16);
    let n = span(&lost).start;
    let (status, _) = silent.report(&cluster, &id, &lost["fence"], &[(n, digests[n as usize])]).await?;
    assert!(matches!(status, StatusCode::CONFLICT | StatusCode::GONE), "{status}");
    Ok(())
}

#[tokio::test]
async fn a_worker_that_leaves_is_replaced_at_once_and_what_it_held_is_fetched_again() -> anyhow::Result<()> {
    let (cluster, origin) = (info_server(&[]).await?, Origin::start(8 * MIB).await?);
    let (one, two) = (Worker::enrol(&cluster, "fs-1", "eu").await?, Worker::enrol(&cluster, "fs-2", "eu").await?);
    let (_, digests) = origin.digests();
    let id = id(&job(&cluster, json!({ "url": origin.url() })).await?)?;
    let lease = one.claim(&cluster, &id).await?;
    let held: Vec<(u64, Digest)> = span(&lease).map(|n| (n, digests[n as usize])).collect();
    assert_eq!(one.report(&cluster, &id, &lease["fence"], &held).await?.0, StatusCode::OK);
    one.leave(&cluster).await?;
    eventually("what it held is to be fetched again", STEP_TIMEOUT, async || {
        let lease = two.claim(&cluster, &id).await?;
        Ok(span(&lease).contains(&held[0].0).then_some(()))
    })
    .await?;
    let info = work_on(&cluster, &id, &[&two], &digests).await?;
    let worker = |id: &str| info["workers"].as_array().unwrap().iter().find(|worker| worker["server"] == id).cloned();
    assert_eq!(worker("fs-1").unwrap()["state"], "gone", "{info}");
    Ok(())
}

#[tokio::test]
async fn leases_and_digests_outlive_a_restart_of_the_info_server() -> anyhow::Result<()> {
    let (mut cluster, origin) = (info_server(&[]).await?, Origin::start(16 * MIB).await?);
    let (one, two) = (Worker::enrol(&cluster, "fs-1", "eu").await?, Worker::enrol(&cluster, "fs-2", "eu").await?);
    let (_, digests) = origin.digests();
    let id = id(&job(&cluster, json!({ "url": origin.url() })).await?)?;
    let (first, second) = (one.claim(&cluster, &id).await?, two.claim(&cluster, &id).await?);
    let n = span(&first).start;
    assert_eq!(one.report(&cluster, &id, &first["fence"], &[(n, digests[n as usize])]).await?.0, StatusCode::OK);
    let asked = origin.requests();
    cluster.info.take().unwrap().kill().await?;
    cluster.restart_info().await?;
    let info = cluster.get(&format!("/v1/jobs/{id}")).await?;
    assert_eq!((&info["state"], &info["fetched"]), (&json!("running"), &json!(1)), "{info}");
    for (worker, lease) in [(&one, &first), (&two, &second)] {
        let n = span(lease).end - 1;
        let (status, answer) = worker.report(&cluster, &id, &lease["fence"], &[(n, digests[n as usize])]).await?;
        assert_eq!(status, StatusCode::OK, "{answer}");
    }
    work_on(&cluster, &id, &[&one, &two], &digests).await?;
    assert_eq!(origin.requests(), asked, "the origin was not asked again");
    Ok(())
}

#[tokio::test]
async fn what_a_worker_left_that_died_with_the_info_server_is_given_out_soon_after_the_restart() -> anyhow::Result<()> {
    let (mut cluster, origin) = (info_server(&[]).await?, Origin::start(8 * MIB).await?);
    let (dead, other) = (Worker::enrol(&cluster, "fs-1", "eu").await?, Worker::enrol(&cluster, "fs-2", "eu").await?);
    let (_, digests) = origin.digests();
    // It has begun all chunks: more than may be raced.
    let id = id(&job(&cluster, json!({ "url": origin.url(), "connections": 8 })).await?)?;
    dead.claim(&cluster, &id).await?;
    dead.claim(&cluster, &id).await?;
    cluster.info.take().unwrap().kill().await?;
    cluster.restart_info().await?;
    let back = std::time::Instant::now();
    work_on(&cluster, &id, &[&other], &digests).await?;
    let took = back.elapsed();
    println!("all was given out and brought {took:?} after the restart");
    assert!(took >= Duration::from_millis(2_000), "a live worker has time to report: {took:?}");
    assert!(took <= Duration::from_secs(5), "{took:?}");
    Ok(())
}

#[tokio::test]
async fn what_a_worker_says_that_it_does_not_hold_is_given_out_again() -> anyhow::Result<()> {
    let (cluster, origin) = (info_server(&[]).await?, Origin::start(8 * MIB).await?);
    let (one, two) = (Worker::enrol(&cluster, "fs-1", "eu").await?, Worker::enrol(&cluster, "fs-2", "eu").await?);
    let (_, digests) = origin.digests();
    let id = id(&job(&cluster, json!({ "url": origin.url() })).await?)?;
    work_on(&cluster, &id, &[&one], &digests).await?;
    let path = format!("/v1/jobs/{id}/leases");
    let strange = one.send(&cluster, Method::POST, &path, Some(json!({ "held": [[3, 2]] }))).await?;
    assert_eq!(strange.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let all = one.send(&cluster, Method::POST, &path, Some(json!({ "held": [[0, 8]] }))).await?;
    assert_eq!(all.status(), StatusCode::GONE, "it has all of it, and nothing is to be done");
    let some = one.send(&cluster, Method::POST, &path, Some(json!({ "held": [[0, 5]] }))).await?;
    assert_eq!(some.status(), StatusCode::OK);
    let claimed: Value = some.json().await?;
    assert!(span(&claimed["lease"]).start >= 5, "{claimed}");
    let info = work_on(&cluster, &id, &[&two, &one], &digests).await?;
    assert_eq!(info["fetched"], 8);
    Ok(())
}

#[tokio::test]
async fn an_origin_that_is_too_busy_is_left_alone_for_as_long_as_it_says() -> anyhow::Result<()> {
    let (cluster, origin) = (info_server(&[]).await?, Origin::start(8 * MIB).await?);
    let (one, two) = (Worker::enrol(&cluster, "fs-1", "eu").await?, Worker::enrol(&cluster, "fs-2", "eu").await?);
    let id = id(&job(&cluster, json!({ "url": origin.url() })).await?)?;
    let lease = one.claim(&cluster, &id).await?;
    let path = format!("/v1/jobs/{id}/leases/{}", lease["fence"]);
    let busy = json!({ "failed": { "reason": "busy", "retry_after_s": 3 } });
    let asked = std::time::Instant::now();
    let response = one.send(&cluster, Method::PUT, &path, Some(busy)).await?;
    assert_eq!(response.status(), StatusCode::OK);
    let (_, nothing) = two.ask(&cluster, &id).await?;
    assert!(nothing.get("lease").is_none() && nothing["again_ms"].as_u64().unwrap() >= 200, "{nothing}");
    two.claim(&cluster, &id).await?;
    assert!(asked.elapsed() > Duration::from_millis(2_500), "{:?}", asked.elapsed());
    Ok(())
}

#[tokio::test]
async fn only_the_servers_of_the_named_zones_work_on_a_job() -> anyhow::Result<()> {
    let (cluster, origin) = (info_server(&[]).await?, Origin::start(8 * MIB).await?);
    let (here, there) = (Worker::enrol(&cluster, "fs-1", "eu").await?, Worker::enrol(&cluster, "fs-2", "us").await?);
    let body = json!({ "url": origin.url(), "zones": ["eu"] });
    let id = id(&job(&cluster, body).await?)?;
    here.claim(&cluster, &id).await?;
    assert_eq!(there.ask(&cluster, &id).await?.0, StatusCode::FORBIDDEN);
    let (status, direct) = ask(&cluster, &cluster.token, json!({ "url": origin.url(), "zones": ["ap"] })).await?;
    assert_eq!((status, &direct["state"], &direct["reason"]), (StatusCode::OK, &json!("direct"), &json!("no-workers")));
    Ok(())
}

/// S44: each worker of a crowd is given a part, and the job lists them all.
#[tokio::test]
async fn a_hundred_workers_of_one_url_are_all_listed_and_all_bring_a_part() -> anyhow::Result<()> {
    const WORKERS: usize = 100;
    // A connection for each of them, at an origin that bears it.
    let (cluster, origin) =
        (info_server(&["--origin-connections", "100"]).await?, Origin::start(2 * WORKERS as u64 * MIB).await?);
    let enrol = |n: usize| {
        let cluster = &cluster;
        async move { Worker::enrol(cluster, &format!("fs-{n}"), ["eu", "us"][n % 2]).await }
    };
    let workers: Vec<Worker> = stream::iter(0..WORKERS).map(enrol).buffer_unordered(8).try_collect().await?;
    let (_, digests) = origin.digests();
    let id = id(&job(&cluster, json!({ "url": origin.url(), "connections": 1 })).await?)?;

    // No worker goes on after its first part, so that the slowest is not left without one.
    let bring_one = async |worker: &Worker| {
        eventually("the worker brings a chunk", STEP_TIMEOUT, async || {
            let lease = worker.claim(&cluster, &id).await?;
            let chunks: Vec<(u64, Digest)> = span(&lease).map(|n| (n, digests[n as usize])).collect();
            let (status, _) = worker.report(&cluster, &id, &lease["fence"], &chunks).await?;
            Ok((status == StatusCode::OK && lease["purpose"] == "fetch").then_some(()))
        })
        .await
    };
    for brought in join_all(workers.iter().map(bring_one)).await {
        brought?;
    }
    let info = work_on(&cluster, &id, &workers.iter().take(4).collect::<Vec<_>>(), &digests).await?;
    let listed = info["workers"].as_array().unwrap();
    let idle: Vec<&Value> = listed.iter().filter(|worker| worker["chunks"] == 0).collect();
    assert_eq!((listed.len(), &info["fetched"]), (WORKERS, &json!(2 * WORKERS)), "{info}");
    assert!(idle.is_empty(), "{idle:?}");
    Ok(())
}
