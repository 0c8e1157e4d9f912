//! Requesters of a job: joining, visibility, and its end.

use std::time::Duration;

use ddm_testkit::{cluster::Cluster, process::eventually};
use jiff::{SignedDuration, Timestamp};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::fixture::{Origin, STEP_TIMEOUT, Worker, ask, id, info_server, job, somebody, status, work_on};
use crate::content::MIB;

async fn state(cluster: &Cluster, id: &str) -> anyhow::Result<Value> {
    Ok(cluster.get(&format!("/v1/jobs/{id}")).await?["state"].clone())
}

#[tokio::test]
async fn a_second_requester_joins_without_touching_the_origin_and_the_job_ends_with_the_last_one() -> anyhow::Result<()>
{
    let (cluster, origin) = (info_server(&[]).await?, Origin::start(8 * MIB).await?);
    let _worker = Worker::enrol(&cluster, "fs-1", "eu").await?;
    let other = somebody(&cluster, "other").await?;
    let info = job(&cluster, json!({ "url": origin.url() })).await?;
    let (id, file) = (id(&info)?, info["file"].as_str().unwrap().to_owned());
    let asked = origin.requests();

    // No other account sees anything of it before it requests the URL.
    for path in [
        format!("/v1/jobs/{id}"),
        format!("/v1/jobs/{id}/events"),
        format!("/v1/files/{file}"),
        format!("/v1/files/{file}/manifest"),
        format!("/v1/files/{file}/replicas"),
    ] {
        assert_eq!(status(&cluster, &other, &path).await?, StatusCode::NOT_FOUND, "{path}");
    }
    let (joined, second) = ask(&cluster, &other, json!({ "url": origin.url() })).await?;
    assert_eq!((joined, &second["id"], &second["askers"]), (StatusCode::OK, &json!(id), &json!(2)));
    assert_eq!(origin.requests(), asked);
    assert_eq!(status(&cluster, &other, &format!("/v1/files/{file}")).await?, StatusCode::OK);
    assert_eq!(cluster.get("/v1/files").await?["files"], json!([]), "it is no file of the catalogue");

    let leave = cluster.request(Method::DELETE, &format!("/v1/jobs/{id}")).send().await?;
    assert_eq!(leave.status(), StatusCode::NO_CONTENT);
    assert_eq!(state(&cluster, &id).await?, "running", "the other one still wants it");
    let url = format!("{}/v1/jobs/{id}", cluster.info_url());
    let leave = cluster.http.delete(url).bearer_auth(&other).send().await?;
    assert_eq!(leave.status(), StatusCode::NO_CONTENT);
    let over = cluster.get(&format!("/v1/jobs/{id}")).await?;
    assert_eq!((&over["state"], &over["reason"]), (&json!("stopped"), &json!("unwanted")));
    assert_eq!(status(&cluster, &cluster.token, &format!("/v1/files/{file}")).await?, StatusCode::NOT_FOUND);
    Ok(())
}

#[tokio::test]
async fn a_silent_requester_times_out_and_an_open_stream_counts_as_a_sign_of_life() -> anyhow::Result<()> {
    let (cluster, origin) = (info_server(&["--asker-grace", "2s"]).await?, Origin::start(8 * MIB).await?);
    let worker = Worker::enrol(&cluster, "fs-1", "eu").await?;
    let (_, digests) = origin.digests();
    let id = id(&job(&cluster, json!({ "url": origin.url() })).await?)?;
    let mut stream = cluster.request(Method::GET, &format!("/v1/jobs/{id}/events")).send().await?.error_for_status()?;
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    let lease = worker.claim(&cluster, &id).await?;
    let first = lease["span"][0].as_u64().unwrap();
    worker.report(&cluster, &id, &lease["fence"], &[(first, digests[first as usize])]).await?;
    let mut received = String::new();
    let sha256 = digests[first as usize].to_string();
    let reading = async {
        while !received.contains(&sha256) {
            let part = stream.chunk().await?.ok_or_else(|| anyhow::anyhow!("the stream ended: {received}"))?;
            received += &String::from_utf8_lossy(&part);
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(STEP_TIMEOUT, reading).await??;
    assert!(received.starts_with("event: job\ndata: {") && received.contains("event: chunks\ndata: [{"), "{received}");
    drop(stream);
    eventually("it stops", STEP_TIMEOUT, async || Ok((state(&cluster, &id).await? == "stopped").then_some(()))).await
}

/// Asks in the name of one process of the admin's account.
async fn ask_as(cluster: &Cluster, requester: &str, body: &Value) -> anyhow::Result<(StatusCode, Value)> {
    let answer = cluster.request(Method::POST, &format!("/v1/jobs?asker={requester}")).json(body).send().await?;
    Ok((answer.status(), answer.json().await?))
}

async fn leave(cluster: &Cluster, token: &str, id: &str, query: &str) -> anyhow::Result<StatusCode> {
    let url = format!("{}/v1/jobs/{id}{query}", cluster.info_url());
    Ok(cluster.http.delete(url).bearer_auth(token).send().await?.status())
}

const ONE: &str = "01890a5d-ac96-774b-bcce-b302099a8057";
const TWO: &str = "01890a5d-ac96-774b-bcce-b302099a8058";

#[tokio::test]
async fn two_processes_of_one_account_leave_each_by_itself_also_over_a_restart() -> anyhow::Result<()> {
    let (mut cluster, origin) = (info_server(&[]).await?, Origin::start(8 * MIB).await?);
    let worker = Worker::enrol(&cluster, "fs-1", "eu").await?;
    let stranger = somebody(&cluster, "stranger").await?;
    let body = json!({ "url": origin.url() });
    let (created, info) = ask_as(&cluster, ONE, &body).await?;
    assert_eq!((created, &info["askers"]), (StatusCode::CREATED, &json!(1)), "{info}");
    let id = id(&info)?;
    assert_eq!(ask_as(&cluster, ONE, &body).await?.1["askers"], 1, "it is the same process");
    let (joined, info) = ask_as(&cluster, TWO, &body).await?;
    assert_eq!((joined, &info["id"], &info["askers"]), (StatusCode::OK, &json!(id), &json!(2)));

    // The id means nothing with another account, whether that one asks or not.
    let one = format!("?asker={ONE}");
    assert_eq!(leave(&cluster, &stranger, &id, &one).await?, StatusCode::NOT_FOUND);
    assert_eq!(ask(&cluster, &stranger, body.clone()).await?.1["askers"], 3);
    assert_eq!(leave(&cluster, &stranger, &id, &one).await?, StatusCode::NOT_FOUND);
    assert_eq!(leave(&cluster, &stranger, &id, "").await?, StatusCode::NO_CONTENT);

    assert_eq!(leave(&cluster, &cluster.token, &id, &one).await?, StatusCode::NO_CONTENT);
    let left = async |cluster: &Cluster| {
        let info = cluster.get(&format!("/v1/jobs/{id}")).await?;
        assert_eq!((&info["state"], &info["askers"]), (&json!("running"), &json!(1)), "{info}");
        assert_eq!(leave(cluster, &cluster.token, &id, &one).await?, StatusCode::GONE, "it has left");
        let progress = cluster.request(Method::PUT, &format!("/v1/jobs/{id}/progress{one}"));
        assert_eq!(progress.json(&json!({ "runs": [[0, 1]] })).send().await?.status(), StatusCode::GONE);
        assert_eq!(status(cluster, &cluster.token, &format!("/v1/jobs/{id}/events{one}")).await?, StatusCode::GONE);
        anyhow::Ok(())
    };
    left(&cluster).await?;
    cluster.info.take().unwrap().kill().await?;
    cluster.restart_info().await?;
    worker.live(&cluster).await?;
    left(&cluster).await?;
    assert_eq!(leave(&cluster, &cluster.token, &id, &format!("?asker={TWO}")).await?, StatusCode::NO_CONTENT);
    assert_eq!(state(&cluster, &id).await?, "stopped");
    let (refused, problem) = ask_as(&cluster, "me", &body).await?;
    assert_eq!(refused, StatusCode::BAD_REQUEST);
    assert!(problem["detail"].as_str().unwrap().contains("UUID"), "{problem}");
    Ok(())
}

#[tokio::test]
async fn a_closed_stream_ends_its_requester_alone() -> anyhow::Result<()> {
    let (cluster, origin) = (info_server(&["--asker-grace", "2s"]).await?, Origin::start(8 * MIB).await?);
    let _worker = Worker::enrol(&cluster, "fs-1", "eu").await?;
    let body = json!({ "url": origin.url() });
    let id = id(&ask_as(&cluster, ONE, &body).await?.1)?;
    let open = async |requester: &str| {
        let stream = cluster.request(Method::GET, &format!("/v1/jobs/{id}/events?asker={requester}")).send().await?;
        anyhow::Ok(stream.error_for_status()?)
    };
    // The second one asks by its stream alone, as a requester that takes part by a job's id does.
    let (one, two) = (open(ONE).await?, open(TWO).await?);
    let requesters = async |count: u32| {
        eventually(&format!("{count} ask"), STEP_TIMEOUT, async || {
            let info = cluster.get(&format!("/v1/jobs/{id}")).await?;
            assert_eq!(info["state"], "running", "{info}");
            Ok((info["askers"] == count).then_some(()))
        })
        .await
    };
    requesters(2).await?;
    drop(one);
    requesters(1).await?;
    drop(two);
    eventually("it stops", STEP_TIMEOUT, async || Ok((state(&cluster, &id).await? == "stopped").then_some(()))).await
}

#[tokio::test]
async fn an_account_cancels_for_all_its_processes_of_which_it_has_so_many() -> anyhow::Result<()> {
    let (cluster, origin) = (info_server(&[]).await?, Origin::start(8 * MIB).await?);
    let _worker = Worker::enrol(&cluster, "fs-1", "eu").await?;
    let body = json!({ "url": origin.url() });
    let id = id(&job(&cluster, body.clone()).await?)?;
    let mut requesters = 1;
    let problem = loop {
        let (status, answer) = ask_as(&cluster, &wire::RequesterId::new().to_string(), &body).await?;
        if status != StatusCode::OK {
            assert_eq!(status, StatusCode::TOO_MANY_REQUESTS, "{answer}");
            break answer;
        }
        requesters += 1;
        assert_eq!(answer["askers"], requesters);
    };
    assert_eq!((requesters, &problem["type"]), (64, &json!("urn:ddm:problem:too-many-askers")), "{problem}");
    let stream = format!("/v1/jobs/{id}/events?asker={}", wire::RequesterId::new());
    assert_eq!(status(&cluster, &cluster.token, &stream).await?, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(leave(&cluster, &cluster.token, &id, "").await?, StatusCode::NO_CONTENT);
    let over = cluster.get(&format!("/v1/jobs/{id}")).await?;
    assert_eq!((&over["state"], &over["askers"]), (&json!("stopped"), &json!(0)), "{over}");
    Ok(())
}

#[tokio::test]
async fn an_account_has_so_many_jobs_and_no_more() -> anyhow::Result<()> {
    let cluster = info_server(&["--jobs-per-user", "1"]).await?;
    let (origin, more) = (Origin::start(8 * MIB).await?, Origin::start(8 * MIB).await?);
    let _worker = Worker::enrol(&cluster, "fs-1", "eu").await?;
    let id = id(&job(&cluster, json!({ "url": origin.url() })).await?)?;
    let (status, problem) = ask(&cluster, &cluster.token, json!({ "url": more.url() })).await?;
    assert_eq!((status, &problem["type"]), (StatusCode::TOO_MANY_REQUESTS, &json!("urn:ddm:problem:too-many-jobs")));
    assert_eq!(
        ask(&cluster, &cluster.token, json!({ "url": origin.url() })).await?.0,
        StatusCode::OK,
        "it is the same"
    );
    cluster.request(Method::DELETE, &format!("/v1/jobs/{id}")).send().await?.error_for_status()?;
    job(&cluster, json!({ "url": more.url() })).await?;
    Ok(())
}

/// Longest delay of a scheduled job.
const ON_TIME: SignedDuration = SignedDuration::from_secs(3);

#[tokio::test]
async fn a_scheduled_job_waits_over_a_restart_begins_in_time_and_can_be_cancelled() -> anyhow::Result<()> {
    let (mut cluster, origin) = (info_server(&[]).await?, Origin::start(8 * MIB).await?);
    let worker = Worker::enrol(&cluster, "fs-1", "eu").await?;
    let at = |seconds| (Timestamp::now() + SignedDuration::from_secs(seconds)).to_string();
    let due = Timestamp::now() + SignedDuration::from_secs(4);
    let soon = job(&cluster, json!({ "url": origin.url(), "start_at": due.to_string() })).await?;
    let later = job(&cluster, json!({ "url": origin.url(), "start_at": at(3600) })).await?;
    assert_eq!((&soon["state"], soon.get("file")), (&json!("scheduled"), None));
    assert_ne!(soon["id"], later["id"]);
    assert_eq!(origin.requests(), 0, "nothing is asked before its time");
    cluster.info.take().unwrap().kill().await?;
    cluster.restart_info().await?;
    let (soon, later) = (id(&soon)?, id(&later)?);
    let running = eventually("it begins", STEP_TIMEOUT, async || {
        worker.live(&cluster).await?;
        let info = cluster.get(&format!("/v1/jobs/{soon}")).await?;
        Ok((info["state"] == "running").then_some(info))
    })
    .await?;
    let late = Timestamp::now().duration_since(due);
    assert!(late >= SignedDuration::ZERO && late <= ON_TIME, "it began {late:#} after its time");
    assert!(running["file"].is_string());
    cluster.request(Method::DELETE, &format!("/v1/jobs/{later}")).send().await?.error_for_status()?;
    assert_eq!(state(&cluster, &later).await?, "stopped");
    let (_, digests) = origin.digests();
    work_on(&cluster, &soon, &[&worker], &digests).await?;
    Ok(())
}

#[tokio::test]
async fn a_kept_result_is_joined_without_touching_the_origin_and_seen_by_its_requesters_alone() -> anyhow::Result<()> {
    let (cluster, origin) = (info_server(&["--default-replicas", "2"]).await?, Origin::start(8 * MIB).await?);
    let worker = Worker::enrol(&cluster, "fs-1", "eu").await?;
    let (sha256, digests) = origin.digests();
    let (friend, stranger) = (somebody(&cluster, "friend").await?, somebody(&cluster, "stranger").await?);
    let info = job(&cluster, json!({ "url": origin.url(), "keep": true })).await?;
    let (id, file) = (id(&info)?, info["file"].as_str().unwrap().to_owned());
    let done = work_on(&cluster, &id, &[&worker], &digests).await?;
    assert_eq!(done["checked"], "unchecked", "one worker alone fetched it: {done}");

    // A holder of all of it read it back from its own disk.
    let report = json!({ "counter": 1, "runs": [[0, 8]], "root": wire::Digest::root_of(&digests), "sha256": sha256 });
    let path = format!("/v1/files/{file}/replicas/fs-1");
    let response = worker.send(&cluster, Method::PUT, &path, Some(report)).await?;
    assert_eq!(response.status(), StatusCode::NO_CONTENT);
    let kept = eventually("it stands in the catalogue", STEP_TIMEOUT, async || {
        worker.live(&cluster).await?;
        let details = cluster.get(&format!("/v1/files/{file}?grant=false")).await?;
        Ok((details["state"] == "available").then_some(details))
    })
    .await?;
    assert_eq!(kept["sha256"], json!(sha256));

    let asked = origin.requests();
    let body = json!({ "url": origin.url(), "sha256": sha256 });
    let (status_, joined) = ask(&cluster, &friend, body).await?;
    assert_eq!((status_, &joined["id"], &joined["sha256"]), (StatusCode::OK, &json!(id), &json!(sha256)));
    eventually("it says until when it stays", STEP_TIMEOUT, async || {
        let info = cluster.get(&format!("/v1/jobs/{id}")).await?;
        Ok(info["expires_at"].is_string().then_some(()))
    })
    .await?;
    assert_eq!(origin.requests(), asked);
    let listed = async |token: &str| {
        let answer = cluster.http.get(format!("{}/v1/files", cluster.info_url())).bearer_auth(token).send().await?;
        anyhow::Ok(answer.json::<Value>().await?["files"].as_array().unwrap().len())
    };
    assert_eq!((listed(&friend).await?, listed(&stranger).await?), (1, 0));
    for (token, expected) in [(&friend, StatusCode::OK), (&stranger, StatusCode::NOT_FOUND)] {
        assert_eq!(status(&cluster, token, &format!("/v1/files/{file}?grant=false")).await?, expected);
    }
    Ok(())
}

#[tokio::test]
async fn a_kept_result_goes_when_its_time_is_over() -> anyhow::Result<()> {
    let (cluster, origin) = (info_server(&["--keep-for", "2s"]).await?, Origin::start(8 * MIB).await?);
    let worker = Worker::enrol(&cluster, "fs-1", "eu").await?;
    let (_, digests) = origin.digests();
    let id = id(&job(&cluster, json!({ "url": origin.url(), "keep": true })).await?)?;
    work_on(&cluster, &id, &[&worker], &digests).await?;
    eventually("it is gone", STEP_TIMEOUT + Duration::from_secs(2), async || {
        Ok((state(&cluster, &id).await? == "stopped").then_some(()))
    })
    .await
}
