//! F1, F13, F23, F31, F60, S31, S41, S54: one of the workers, the broker, the info-server or the origin has a bad day while a URL is
//! fetched together.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use ddm_testkit::{
    cluster::{Cluster, Plan},
    process::eventually,
    proxy::Proxy,
    rabbitmq::RabbitMq,
    rogue::{Behaviour, Rogue},
};
use jiff::{SignedDuration, Timestamp};
use reqwest::Method;
use serde_json::{Value, json};
use wire::FileId;

use super::fixture::{STEP_TIMEOUT, assemble, begin, done, job, plan, throttled};
use crate::{
    content::{MIB, bytes, number},
    standing::empty,
};

/// Returns the plan of [`plan`] with a long grace for absent requesters: these tests request and then only observe.
fn patient(zones: &[&'static str]) -> Plan {
    let mut plan = plan(zones);
    plan.info_args.extend(["--asker-grace".to_owned(), "10m".to_owned()]);
    plan
}

/// Returns the plan of servers that fetch through a proxy.
fn by_way_of(proxy: SocketAddr) -> Plan {
    let mut plan = plan(&[]);
    plan.file_server_args.extend(["--origin-proxy".to_owned(), format!("http://{proxy}")]);
    plan
}

fn worker<'a>(info: &'a Value, id: &str) -> anyhow::Result<&'a Value> {
    let workers = info["workers"].as_array().context("workers")?;
    workers.iter().find(|worker| worker["server"] == id).with_context(|| format!("{id} is no worker of {info}"))
}

#[tokio::test]
async fn the_one_worker_that_gets_wrong_bytes_is_excluded_and_the_file_is_right() -> anyhow::Result<()> {
    let (file, content) = (FileId::new(), bytes(65, 24 * MIB));
    let origin = Rogue::start(file, content.clone().into()).await?;
    // Slow enough that no worker has all of it before the faulty one joins.
    origin.set(Behaviour::Throttle { rate: 3 * MIB });
    // It says that it is the same version, and every chunk has a wrong bit.
    let spoilt = Rogue::start(file, content.clone().into()).await?;
    spoilt.set(Behaviour::FlipBit { every: MIB });
    let mut cluster = Cluster::start(&patient(&["eu", "eu"])).await?;
    cluster.add_server("eu", &by_way_of(spoilt.address())).await?;
    let faulty = cluster.servers[2].id.clone();

    let id = begin(&cluster, &json!({ "url": origin.url() })).await?;
    let info = done(&cluster, &id).await?;
    assert!(spoilt.sent() >= MIB, "it fetched something");
    for server in &cluster.servers {
        let excluded = worker(&info, &server.id)?["state"] == "excluded";
        assert_eq!(excluded, server.id == faulty, "{info}");
    }
    assert!(number(&info["generation"]) >= 1 && number(&worker(&info, &faulty)?["chunks"]) == 0, "{info}");
    assert!(assemble(&cluster, &info).await? == content);
    let audit = cluster.get("/v1/audit?kind=worker-convicted").await?;
    let excluded: Vec<&Value> = audit["entries"].as_array().unwrap().iter().map(|entry| &entry["subject"]).collect();
    assert_eq!(excluded, [&json!(faulty)]);
    empty(&cluster, [2]).await
}

#[tokio::test]
async fn a_worker_with_a_full_disk_serves_what_it_has_and_others_fetch_the_rest() -> anyhow::Result<()> {
    let (origin, content) = throttled(66, 64 * MIB, 4 * MIB).await?;
    let mut plan = patient(&["eu", "eu"]);
    plan.file_server_args.extend(["--reserve".to_owned(), "10MiB".to_owned()]);
    let mut cluster = Cluster::start(&plan).await?;
    let small = cluster.servers[0].id.clone();
    cluster.take_server(0)?.stop().await?;
    cluster.restart_server_on_small_disk(0, 24).await?;
    eventually("it is listed again", STEP_TIMEOUT, async || Ok((cluster.server_ids().await?.len() == 2).then_some(())))
        .await?;
    let id = begin(&cluster, &json!({ "url": origin.url() })).await?;
    let info = done(&cluster, &id).await?;
    let had = number(&worker(&info, &small)?["chunks"]);
    assert!((1..24).contains(&had), "{info}");
    assert!(assemble(&cluster, &info).await? == content);
    assert!(std::fs::read_to_string(cluster.path("file-server-0.log"))?.contains("--reserve"), "it says so");
    Ok(())
}

#[tokio::test]
async fn a_worker_that_is_cut_off_is_replaced_and_cleans_up_when_it_is_back() -> anyhow::Result<()> {
    let (origin, content) = throttled(67, 24 * MIB, 6 * MIB).await?;
    let mut cluster = Cluster::start(&patient(&["eu", "eu"])).await?;
    let line = Proxy::start().await?;
    line.forward_to(cluster.info.as_ref().context("an info-server")?.address());
    cluster.take_server(0)?.stop().await?;
    cluster.change_server(0, "--info", &format!("http://{}", line.address()))?;
    cluster.restart_server(0).await?;
    eventually("it is listed again", STEP_TIMEOUT, async || Ok((cluster.server_ids().await?.len() == 2).then_some(())))
        .await?;
    let id = begin(&cluster, &json!({ "url": origin.url() })).await?;
    job(&cluster, &id, "both fetch", |info| super::worked(info) == 2).await?;
    line.cut(true);
    let cut = Instant::now();
    job(&cluster, &id, "all is fetched", |info| number(&info["fetched"]) == 24).await?;
    println!("all fetched {:?} after the cut", cut.elapsed());
    let info = done(&cluster, &id).await?;
    assert!(assemble(&cluster, &info).await? == content);
    assert!(origin.sent() <= 24 * MIB + 13 * MIB, "{} bytes: at most its half is fetched anew", origin.sent());
    cluster.request(Method::DELETE, &format!("/v1/jobs/{id}")).send().await?.error_for_status()?;
    line.cut(false);
    empty(&cluster, 0..2).await
}

#[tokio::test]
async fn an_origin_that_is_away_for_a_while_ends_no_job_and_excludes_no_worker() -> anyhow::Result<()> {
    let (file, content) = (FileId::new(), bytes(69, 24 * MIB));
    let at = |address| async move {
        let origin = Rogue::start_at(address, file, bytes(69, 24 * MIB).into()).await?;
        origin.set(Behaviour::Throttle { rate: 4 * MIB });
        anyhow::Ok(origin)
    };
    let origin = at(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
    let cluster = Cluster::start(&patient(&["eu", "eu"])).await?;
    let id = begin(&cluster, &json!({ "url": origin.url() })).await?;
    job(&cluster, &id, "both fetch", |info| super::worked(info) == 2).await?;
    let address = origin.address();
    drop(origin);
    // Longer than three tries of each worker.
    tokio::time::sleep(Duration::from_secs(9)).await;
    let _origin = at(address).await?;
    let info = done(&cluster, &id).await?;
    let workers = info["workers"].as_array().context("workers")?;
    assert!(workers.iter().all(|worker| worker["state"] != "excluded"), "{info}");
    assert!(assemble(&cluster, &info).await? == content);
    Ok(())
}

#[tokio::test]
async fn a_job_that_takes_long_lets_others_have_its_place_now_and_then() -> anyhow::Result<()> {
    let (slow, _) = throttled(70, 96 * MIB, MIB).await?;
    let (quick, content) = throttled(71, 9 * MIB, 64 * MIB).await?;
    let mut plan = patient(&["eu"]);
    plan.file_server_args.extend(["--fetches".to_owned(), "1".to_owned()]);
    let cluster = Cluster::start(&plan).await?;
    let long = begin(&cluster, &json!({ "url": slow.url() })).await?;
    job(&cluster, &long, "the long one is worked on", |info| number(&info["fetched"]) > 0).await?;
    let short = begin(&cluster, &json!({ "url": quick.url() })).await?;
    let info = done(&cluster, &short).await?;
    assert!(assemble(&cluster, &info).await? == content);
    let had = number(&cluster.get(&format!("/v1/jobs/{long}")).await?["fetched"]);
    assert!(had < 96, "it is not over");
    job(&cluster, &long, "the long one goes on", |info| number(&info["fetched"]) > had).await?;
    Ok(())
}

#[tokio::test]
async fn a_broker_that_is_killed_midway_stops_no_job_and_keeps_none_from_beginning() -> anyhow::Result<()> {
    let broker = RabbitMq::start().await?;
    let cluster = Cluster::start(&Plan { amqp: Some(broker.uri()), ..patient(&["eu", "us"]) }).await?;
    let (first, one) = throttled(68, 32 * MIB, 4 * MIB).await?;
    let (second, two) = throttled(69, 12 * MIB, 8 * MIB).await?;
    let begun = begin(&cluster, &json!({ "url": first.url() })).await?;
    job(&cluster, &begun, "some is fetched", |info| number(&info["fetched"]) >= 2).await?;
    broker.kill().await?;
    let later = begin(&cluster, &json!({ "url": second.url() })).await?;
    let info = done(&cluster, &later).await?;
    assert!(assemble(&cluster, &info).await? == two, "hints come without the broker");
    broker.restart().await?;
    first.set(Behaviour::Honest);
    let info = done(&cluster, &begun).await?;
    assert!(assemble(&cluster, &info).await? == one);
    let (third, three) = throttled(70, 12 * MIB, 8 * MIB).await?;
    let after = begin(&cluster, &json!({ "url": third.url() })).await?;
    let info = done(&cluster, &after).await?;
    assert!(assemble(&cluster, &info).await? == three);
    for id in [begun, later, after] {
        cluster.request(Method::DELETE, &format!("/v1/jobs/{id}")).send().await?.error_for_status()?;
    }
    empty(&cluster, 0..2).await
}

#[tokio::test]
async fn the_rest_of_a_worker_on_a_slow_line_goes_to_one_that_comes_late() -> anyhow::Result<()> {
    const SLOW: u32 = 256 << 10;
    let content = bytes(71, 32 * MIB);
    let origin = Rogue::start(FileId::new(), content.clone().into()).await?;
    let line = Proxy::start().await?;
    line.forward_to(origin.address());
    line.limit(Some(SLOW));
    let mut cluster = Cluster::start(&patient(&[])).await?;
    cluster.add_server("eu", &by_way_of(line.address())).await?;
    let id = begin(&cluster, &json!({ "url": origin.url() })).await?;
    job(&cluster, &id, "the slow one fetched something", |info| number(&info["fetched"]) >= 1).await?;
    cluster.add_server("us", &plan(&[])).await?;
    let late = Instant::now();
    job(&cluster, &id, "all is fetched", |info| number(&info["fetched"]) == 32).await?;
    let took = late.elapsed();
    println!("all fetched {took:?} after the late one came");
    // By itself the slow one would have needed two minutes.
    assert!(took <= Duration::from_secs(10), "{took:?}");
    let info = done(&cluster, &id).await?;
    let (slow, fast) = (&cluster.servers[0].id, &cluster.servers[1].id);
    assert!(number(&worker(&info, fast)?["chunks"]) >= 28 && worker(&info, slow)?["state"] != "excluded", "{info}");
    assert!(assemble(&cluster, &info).await? == content);
    Ok(())
}

#[tokio::test]
async fn a_worker_that_lost_its_disk_and_kept_its_name_is_not_thought_to_hold_anything() -> anyhow::Result<()> {
    let (origin, content) = throttled(72, 16 * MIB, 16 * MIB).await?;
    let mut cluster = Cluster::start(&patient(&["eu", "eu"])).await?;
    let id = begin(&cluster, &json!({ "url": origin.url() })).await?;
    let info = done(&cluster, &id).await?;
    let lost = number(&worker(&info, &cluster.servers[0].id)?["chunks"]);
    assert!(lost >= 1, "{info}");
    cluster.take_server(0)?.kill().await?;
    for entry in std::fs::read_dir(cluster.path("file-server-0"))? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            std::fs::remove_dir_all(entry.path())?;
        } else if entry.file_name() != "identity.json" {
            std::fs::remove_file(entry.path())?;
        }
    }
    cluster.restart_server(0).await?;
    let back = Instant::now();
    assert!(assemble(&cluster, &info).await? == content);
    println!("{lost} lost chunks are to be had {:?} after the restart", back.elapsed());
    done(&cluster, &id).await?;
    assert!(origin.sent() <= (16 + lost + 4) * MIB, "only what was lost is fetched again: {}", origin.sent());
    Ok(())
}

#[tokio::test]
async fn a_scheduled_job_whose_origin_is_away_tries_again_says_when_and_can_be_cancelled() -> anyhow::Result<()> {
    let content = bytes(73, 12 * MIB);
    let away = Rogue::start(FileId::new(), content.clone().into()).await?;
    let (address, url) = (away.address(), away.url());
    away.kill().await;
    let refusing = Rogue::start(FileId::new(), content.clone().into()).await?;
    refusing.set(Behaviour::Status { code: 404, retry_after: None });
    let mut cluster = Cluster::start(&patient(&["eu"])).await?;
    let soon = || (Timestamp::now() + SignedDuration::from_secs(1)).to_string();
    let waits = begin(&cluster, &json!({ "url": url, "start_at": soon() })).await?;
    let given_up = begin(&cluster, &json!({ "url": url, "start_at": soon(), "connections": 2 })).await?;
    let refused = begin(&cluster, &json!({ "url": refusing.url(), "start_at": soon() })).await?;
    for id in [&waits, &given_up] {
        let tries = |info: &Value| info["state"] == "scheduled" && info["next_try"].is_string();
        let info = job(&cluster, id, "it is to be tried again", tries).await?;
        assert_eq!(info["reason"], "unreachable");
    }
    let info = job(&cluster, &refused, "it fails", |info| info["state"] == "failed").await?;
    assert_eq!((&info["reason"], info.get("next_try")), (&json!("refused"), None), "what is said for good ends it");
    let shown = cluster.run_client(&["jobs", "show", &waits]).await?;
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("the origin cannot be reached") && shown.contains("next try"), "{shown}");
    let cancelled = cluster.run_client(&["jobs", "cancel", &given_up]).await?;
    assert!(cancelled.status.success(), "{cancelled:?}");
    job(&cluster, &given_up, "it is given up", |info| info["state"] == "stopped").await?;

    cluster.info.take().unwrap().kill().await?;
    cluster.restart_info().await?;
    let info = cluster.get(&format!("/v1/jobs/{waits}")).await?;
    assert_eq!((&info["state"], &info["reason"]), (&json!("scheduled"), &json!("unreachable")), "{info}");
    let back = Rogue::start_at(address, FileId::new(), content.clone().into()).await?;
    let info = done(&cluster, &waits).await?;
    assert!(assemble(&cluster, &info).await? == content);
    drop(back);
    Ok(())
}
