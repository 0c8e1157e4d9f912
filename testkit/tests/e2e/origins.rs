//! S25, S27, S29–S33, S41, F60, P9, P10: a URL fetched together, from real and from bad origins.

mod bad;
mod faults;
mod fixture;
mod reach;

use std::time::{Duration, Instant};

use ddm_testkit::{
    cluster::{Cluster, events, finish},
    nginx::{Nginx, Served},
    process::eventually,
    rogue::{Behaviour, Rogue},
};
use reqwest::{Method, StatusCode};
use rustix::process::Signal;
use serde_json::json;
use wire::FileId;

use crate::{
    content::{MIB, bytes, number},
    standing::empty,
};
use fixture::{STEP_TIMEOUT, assemble, begin, done, job, plan, start, throttled, worked};

/// Time limit for other workers to take over the spans of a lost one.
const REASSIGNMENT_LIMIT: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_url_fetched_together_equals_a_direct_download_and_leaves_nothing_behind() -> anyhow::Result<()> {
    let origin = Nginx::start("limit_rate 1m;").await?;
    let content = bytes(25, 24 * MIB - 5);
    std::fs::write(origin.root().join("image.iso"), &content)?;
    let cluster = Cluster::start(&plan(&["eu", "eu", "us"])).await?;
    let id = begin(&cluster, &json!({ "url": origin.url("image.iso"), "connections": 4 })).await?;
    let info = done(&cluster, &id).await?;
    assert_eq!((info["name"].as_str(), number(&info["size"])), (Some("image.iso"), 24 * MIB - 5));
    assert_eq!(info["checked"], "sampled");
    assert!(assemble(&cluster, &info).await? == content, "merged equals what the origin has");
    assert!(worked(&info) >= 2, "several worked: {info}");
    // Bytes that left the origin: the file, the probe, at most 2 chunks (of so few, more than 2 %) to compare and to race, and
    // what is on its way when a span is cut.
    let served = origin.served()?;
    let sent: u64 = served.iter().map(|request| request.bytes).sum();
    assert!(sent <= 27 * MIB, "{sent} bytes left the origin");

    let left = cluster.request(Method::DELETE, &format!("/v1/jobs/{id}")).send().await?;
    assert_eq!(left.status(), StatusCode::NO_CONTENT);
    empty(&cluster, 0..3).await
}

#[tokio::test]
async fn each_span_uses_as_many_connections_as_were_asked_for() -> anyhow::Result<()> {
    let origin = Nginx::start("limit_rate 1m;").await?;
    std::fs::write(origin.root().join("image.iso"), bytes(26, 16 * MIB))?;
    let mut before = 0;
    for connections in [1, 4] {
        // One worker: what is open at once is its own.
        let cluster = Cluster::start(&plan(&["eu"])).await?;
        let id = begin(&cluster, &json!({ "url": origin.url("image.iso"), "connections": connections })).await?;
        done(&cluster, &id).await?;
        let served = origin.served()?;
        let most = at_once(&served[before..]);
        before = served.len();
        // The next span begins while the one before it comes to its end.
        assert!((connections..=2 * connections).contains(&most), "{most} for {connections}: {served:?}");
    }
    Ok(())
}

/// A worker that is stopped keeps what it fetched only for a job that still wants it.
#[tokio::test]
async fn a_worker_that_is_stopped_midway_is_replaced_and_keeps_nothing_of_a_job_that_is_over() -> anyhow::Result<()> {
    let (origin, content) = throttled(28, 64 * MIB, 8 * MIB).await?;
    let mut cluster = Cluster::start(&plan(&["eu", "eu"])).await?;
    let id = begin(&cluster, &json!({ "url": origin.url() })).await?;
    job(&cluster, &id, "both fetch", |info| worked(info) == 2).await?;
    assert!(cluster.take_server(0)?.stop().await?.success());
    let stopped = Instant::now();
    let info = done(&cluster, &id).await?;
    println!("done {:?} after the stop", stopped.elapsed());
    assert!(stopped.elapsed() < Duration::from_secs(8) + REASSIGNMENT_LIMIT, "{:?}", stopped.elapsed());
    assert!(assemble(&cluster, &info).await? == content);
    let left = cluster.request(Method::DELETE, &format!("/v1/jobs/{id}")).send().await?;
    assert_eq!(left.status(), StatusCode::NO_CONTENT);
    empty(&cluster, [1]).await?;
    cluster.restart_server(0).await?;
    empty(&cluster, [0]).await
}

/// Returns the largest number of requests that ran at once.
fn at_once(served: &[Served]) -> usize {
    let overlap = |at: f64| served.iter().filter(|other| other.time.0 <= at && at < other.time.1).count();
    served.iter().map(|request| overlap(request.time.0)).max().unwrap_or(0)
}

#[tokio::test]
async fn https_redirects_queries_spaces_and_long_addresses_work() -> anyhow::Result<()> {
    let long = "x".repeat(3000);
    let origin = Nginx::start("location = /go { return 302 /a%20file.bin?token=hunter2; }\nlocation = /plain { return 302 http://127.0.0.1:9/x; }").await?;
    let content = bytes(27, 12 * MIB);
    std::fs::write(origin.root().join("a file.bin"), &content)?;
    let ca = origin.authority().display().to_string();
    let mut plan = plan(&["eu", "eu"]);
    for args in [&mut plan.info_args, &mut plan.file_server_args] {
        args.extend(["--origin-ca".to_owned(), ca.clone()]);
    }
    let cluster = Cluster::start(&plan).await?;
    for (path, name) in [("go".to_owned(), "go"), (format!("a%20file.bin?q={long}"), "a file.bin")] {
        let id = begin(&cluster, &json!({ "url": origin.secure_url(&path) })).await?;
        let info = done(&cluster, &id).await?;
        assert_eq!(info["name"], name);
        assert!(assemble(&cluster, &info).await? == content, "{name}");
        cluster.request(Method::DELETE, &format!("/v1/jobs/{id}")).send().await?;
    }
    // TLS is not given up on the way, and not without a reason to trust.
    let (status, refused) = start(&cluster, &json!({ "url": origin.secure_url("plain") })).await?;
    assert_eq!((status, &refused["reason"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("not-secure")));
    for log in ["info-server.log", "file-server-0.log", "file-server-1.log"] {
        let log = std::fs::read_to_string(cluster.path(log))?;
        assert!(!log.contains("hunter2") && !log.contains(&long), "no query is logged");
    }
    Ok(())
}

#[tokio::test]
async fn n_minus_one_of_n_workers_may_be_killed() -> anyhow::Result<()> {
    let (origin, content) = throttled(31, 24 * MIB, 12 * MIB).await?;
    let mut cluster = Cluster::start(&plan(&["eu", "eu", "eu"])).await?;
    let id = begin(&cluster, &json!({ "url": origin.url() })).await?;
    job(&cluster, &id, "some is fetched", |info| number(&info["fetched"]) >= 4).await?;
    cluster.take_server(0)?.kill().await?;
    cluster.take_server(1)?.kill().await?;
    let killed = Instant::now();
    let info = done(&cluster, &id).await?;
    println!("done {:?} after the kill", killed.elapsed());
    // All of it again would take two seconds.
    assert!(killed.elapsed() < Duration::from_secs(2) + REASSIGNMENT_LIMIT, "{:?}", killed.elapsed());
    assert!(assemble(&cluster, &info).await? == content, "the last one has all of it");
    Ok(())
}

#[tokio::test]
async fn a_worker_that_hangs_costs_its_lease_and_its_late_results_change_nothing() -> anyhow::Result<()> {
    let (origin, content) = throttled(32, 16 * MIB, 6 * MIB).await?;
    let cluster = Cluster::start(&plan(&["eu", "eu"])).await?;
    let id = begin(&cluster, &json!({ "url": origin.url() })).await?;
    job(&cluster, &id, "some is fetched", |info| number(&info["fetched"]) >= 2).await?;
    let paused = cluster.servers[0].process.as_ref().unwrap();
    paused.signal(Signal::STOP)?;
    origin.set(Behaviour::Honest);
    // What it holds cannot be had while it hangs; all of it is known once others fetched the rest, or it is gone.
    job(&cluster, &id, "all is fetched", |info| number(&info["fetched"]) == 16).await?;
    paused.signal(Signal::CONT)?;
    let info = done(&cluster, &id).await?;
    assert!(assemble(&cluster, &info).await? == content);
    Ok(())
}

#[tokio::test]
async fn when_the_requester_dies_the_workers_stop_and_clean_up() -> anyhow::Result<()> {
    let grace = Duration::from_secs(2);
    let (origin, _) = throttled(33, 64 * MIB, 2 * MIB).await?;
    let mut plan = plan(&["eu", "eu"]);
    plan.info_args.extend(["--asker-grace".to_owned(), "2s".to_owned()]);
    let cluster = Cluster::start(&plan).await?;
    let mut requester = cluster.spawn_client(&["--json", "-o", "x.bin", origin.url().as_str()])?;
    let id = eventually("it asks for a job", STEP_TIMEOUT, async || {
        let jobs = cluster.get("/v1/jobs").await?["jobs"].clone();
        Ok(jobs[0]["id"].as_str().map(str::to_owned))
    })
    .await?;
    job(&cluster, &id, "some is fetched", |info| number(&info["fetched"]) >= 1).await?;
    // Longer than the grace: as long as it lives, the job does.
    tokio::time::sleep(2 * grace).await;
    let info = cluster.get(&format!("/v1/jobs/{id}")).await?;
    assert_eq!((&info["state"], &info["askers"]), (&json!("running"), &json!(1)), "{info}");
    requester.kill().await?;
    let killed = Instant::now();
    job(&cluster, &id, "nobody wants it", |info| info["state"] == "stopped").await?;
    assert!(killed.elapsed() < grace + Duration::from_secs(5), "{:?}", killed.elapsed());
    empty(&cluster, 0..2).await?;
    // What the origin's sockets held goes nowhere any more.
    let (sent, before) = (origin.sent(), origin.asked().len());
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(origin.sent() - sent < MIB && origin.asked().len() == before, "the origin is left alone");
    assert!(!cluster.path("x.bin").exists());
    Ok(())
}

#[tokio::test]
async fn one_of_two_clients_of_an_account_ends_and_the_other_goes_on_until_it_is_cancelled() -> anyhow::Result<()> {
    let (origin, _) = throttled(34, 64 * MIB, 4 * MIB).await?;
    let cluster = Cluster::start(&plan(&["eu", "eu"])).await?;
    let mut clients = Vec::new();
    for name in ["one.bin", "two.bin"] {
        clients.push(cluster.spawn_client(&["--json", "-o", name, origin.url().as_str()])?);
    }
    let id = eventually("both ask for one job", STEP_TIMEOUT, async || {
        let jobs = cluster.get("/v1/jobs").await?["jobs"].clone();
        let both = jobs.as_array().unwrap().iter().find(|info| info["askers"] == 2);
        Ok(both.map(|info| info["id"].as_str().unwrap().to_owned()))
    })
    .await?;
    let (two, one) = (clients.pop().unwrap(), clients.pop().unwrap());
    let pid = rustix::process::Pid::from_raw(one.id().unwrap().try_into()?).unwrap();
    rustix::process::kill_process(pid, Signal::INT)?;
    assert_eq!(finish(one).await?.status.code(), Some(3));
    job(&cluster, &id, "the other one goes on", |info| info["state"] == "running" && info["askers"] == 1).await?;

    // From another terminal it is given up for the whole account, and no requester asks for it again.
    let cancelled = cluster.run_client(&["jobs", "cancel", &id]).await?;
    assert!(cancelled.status.success(), "{cancelled:?}");
    let ended = finish(two).await?;
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert!(events(&ended)?.iter().all(|event| event["event"] != "again"), "{ended:?}");
    let jobs = cluster.get("/v1/jobs?all=true").await?["jobs"].clone();
    assert_eq!(jobs.as_array().unwrap().iter().map(|info| info["state"].clone()).collect::<Vec<_>>(), ["stopped"]);
    Ok(())
}

#[tokio::test]
async fn several_jobs_at_once_are_each_right() -> anyhow::Result<()> {
    let cluster = Cluster::start(&plan(&["eu", "eu"])).await?;
    let mut jobs = Vec::new();
    for seed in 0..3 {
        let content = bytes(seed, 9 * MIB + seed);
        let origin = Rogue::start(FileId::new(), content.clone().into()).await?;
        let id = begin(&cluster, &json!({ "url": origin.url() })).await?;
        jobs.push((origin, content, id));
    }
    for (_, content, id) in &jobs {
        let info = done(&cluster, id).await?;
        assert!(assemble(&cluster, &info).await? == *content);
    }
    Ok(())
}

#[tokio::test]
async fn a_late_worker_gets_work() -> anyhow::Result<()> {
    let (origin, content) = throttled(41, 32 * MIB, 3 * MIB).await?;
    let plan = plan(&["eu"]);
    let mut cluster = Cluster::start(&plan).await?;
    let id = begin(&cluster, &json!({ "url": origin.url() })).await?;
    job(&cluster, &id, "some is fetched", |info| number(&info["fetched"]) >= 2).await?;
    cluster.add_server("us", &plan).await?;
    job(&cluster, &id, "both work", |info| worked(info) == 2).await?;
    origin.set(Behaviour::Honest);
    let info = done(&cluster, &id).await?;
    assert!(assemble(&cluster, &info).await? == content);
    Ok(())
}

#[tokio::test]
async fn a_job_survives_the_restart_of_everything() -> anyhow::Result<()> {
    let (origin, content) = throttled(54, 24 * MIB, 4 * MIB).await?;
    let mut cluster = Cluster::start(&plan(&["eu", "eu"])).await?;
    let id = begin(&cluster, &json!({ "url": origin.url() })).await?;
    job(&cluster, &id, "some is fetched", |info| number(&info["fetched"]) >= 4).await?;
    cluster.info.take().unwrap().kill().await?;
    cluster.take_server(0)?.kill().await?;
    cluster.restart_info().await?;
    cluster.restart_server(0).await?;
    job(&cluster, &id, "it goes on", |info| number(&info["fetched"]) >= 10).await?;
    origin.set(Behaviour::Honest);
    let info = done(&cluster, &id).await?;
    assert!(assemble(&cluster, &info).await? == content);
    // What was fetched before was not fetched again, but for what was under way.
    assert!(origin.sent() < 34 * MIB, "{}", origin.sent());
    // Who holds what is known after the restart, too: all of it is removed in the end.
    let left = cluster.request(Method::DELETE, &format!("/v1/jobs/{id}")).send().await?;
    assert_eq!(left.status(), StatusCode::NO_CONTENT);
    empty(&cluster, 0..2).await
}
