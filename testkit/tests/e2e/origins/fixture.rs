//! A system that fetches from this machine's own origins, and what is asked of it.

use std::{cell::RefCell, time::Duration};

use anyhow::{Context as _, ensure};
use ddm_testkit::{
    cluster::{Cluster, Plan},
    process::eventually,
    rogue::{Behaviour, Rogue},
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use wire::FileId;

use crate::content::{bytes, number};

/// Time limit for a step on a busy machine.
pub(super) const STEP_TIMEOUT: Duration = Duration::from_secs(60);

/// Servers that may fetch from 127.0.0.0/8.
pub(super) fn plan(zones: &[&'static str]) -> Plan {
    let allow = vec!["--origin-allow".to_owned(), "127.0.0.0/8".to_owned()];
    Plan { info_args: allow.clone(), file_server_args: allow, ..Plan::zones(zones) }
}

/// An origin with that many bytes, which gives that many a second to all together.
pub(super) async fn throttled(seed: u64, size: u64, rate: u64) -> anyhow::Result<(Rogue, Vec<u8>)> {
    let content = bytes(seed, size);
    let origin = Rogue::start(FileId::new(), content.clone().into()).await?;
    origin.set(Behaviour::Throttle { rate });
    Ok((origin, content))
}

/// Asks for a URL; what the info-server says.
pub(super) async fn start(cluster: &Cluster, body: &Value) -> anyhow::Result<(StatusCode, Value)> {
    let answer = cluster.request(Method::POST, "/v1/jobs").json(body).send().await?;
    Ok((answer.status(), answer.json().await?))
}

/// Asks for a URL that is then fetched together; the job's id.
pub(super) async fn begin(cluster: &Cluster, body: &Value) -> anyhow::Result<String> {
    let (status, info) = start(cluster, body).await?;
    ensure!(status == StatusCode::CREATED, "{status}: {info}");
    Ok(info["id"].as_str().context("an id")?.to_owned())
}

/// Waits until the job is as it should be.
pub(super) async fn job(
    cluster: &Cluster,
    id: &str,
    what: &str,
    enough: impl Fn(&Value) -> bool,
) -> anyhow::Result<Value> {
    let mut last = Value::Null;
    let waited = eventually(what, STEP_TIMEOUT, async || {
        // An info-server that is being started again does not answer.
        let Ok(info) = cluster.get(&format!("/v1/jobs/{id}")).await else { return Ok(None) };
        Ok(enough(&info).then_some(info))
    })
    .await;
    if waited.is_err() {
        last = cluster.get(&format!("/v1/jobs/{id}")).await.unwrap_or_default();
    }
    waited.with_context(|| last.to_string())
}

/// Waits until all is fetched and checked.
pub(super) async fn done(cluster: &Cluster, id: &str) -> anyhow::Result<Value> {
    let over = |info: &Value| ["done", "failed", "stopped"].iter().any(|state| info["state"] == *state);
    let info = job(cluster, id, "the job is over", over).await?;
    ensure!(info["state"] == "done", "{info}");
    Ok(info)
}

/// Returns all bytes of a job's file, from the servers that hold them.
pub(super) async fn assemble(cluster: &Cluster, info: &Value) -> anyhow::Result<Vec<u8>> {
    let file = info["file"].as_str().context("a file")?;
    let (size, chunk) = (number(&info["size"]), number(&info["chunk_size"]));
    let all: RefCell<Vec<Option<Vec<u8>>>> = RefCell::new(vec![None; usize::try_from(number(&info["chunks"]))?]);
    // What the workers hold is told a moment after it is held.
    eventually("all chunks are to be had", STEP_TIMEOUT, async || {
        let details = cluster.details(file).await?;
        let granted =
            cluster.request(Method::POST, &format!("/v1/files/{file}/tokens")).json(&json!({})).send().await?;
        let granted: Value = granted.error_for_status()?.json().await?;
        let token = granted["token"].as_str().context("a token")?;
        for location in details["locations"].as_array().context("locations")? {
            for run in location["runs"].as_array().context("runs")? {
                for n in number(&run[0])..number(&run[1]) {
                    let slot = usize::try_from(n)?;
                    if all.borrow()[slot].is_some() {
                        continue;
                    }
                    let range = format!("bytes={}-{}", n * chunk, size.min((n + 1) * chunk) - 1);
                    let url = location["url"].as_str().context("a URL")?;
                    let answer = cluster.http.get(url).bearer_auth(token).header("range", range).send().await;
                    let Ok(answer) = answer else { continue };
                    if answer.status() == StatusCode::PARTIAL_CONTENT {
                        let bytes = answer.bytes().await?.to_vec();
                        all.borrow_mut()[slot] = Some(bytes);
                    }
                }
            }
        }
        Ok(all.borrow().iter().all(Option::is_some).then_some(()))
    })
    .await?;
    Ok(all.into_inner().into_iter().flatten().flatten().collect())
}

/// Counts the workers that were the first to fetch some chunk.
pub(super) fn worked(info: &Value) -> usize {
    let workers = info["workers"].as_array();
    workers.map_or(0, |workers| workers.iter().filter(|worker| number(&worker["chunks"]) > 0).count())
}

/// Returns the reason printed for a URL that is not fetched together.
pub(super) async fn refusal(cluster: &Cluster, url: &str) -> anyhow::Result<String> {
    let (status, answer) = start(cluster, &json!({ "url": url })).await?;
    ensure!(status != StatusCode::CREATED, "{url}: {answer}");
    Ok(answer["reason"].as_str().unwrap_or_default().to_owned())
}
