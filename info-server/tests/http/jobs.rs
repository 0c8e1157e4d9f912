//! The routes of `src/http/jobs`.

use axum::http::{Method, StatusCode as S};
use serde_json::json;
use wire::{Digest, JobId};

use crate::harness::{Caller, InfoServer};

#[tokio::test]
async fn a_list_of_jobs_has_bounds_and_shows_those_of_all_accounts_to_admins_alone() {
    let info = InfoServer::start().await;
    let list = info.get(Caller::Reader, "/v1/jobs?limit=200").await.expect(S::OK, "");
    assert_eq!(list, json!({ "jobs": [] }));
    for wrong in ["limit=0", "limit=201", "cursor=x"] {
        let answer = info.get(Caller::Reader, &format!("/v1/jobs?{wrong}")).await;
        answer.expect(S::UNPROCESSABLE_ENTITY, "invalid-value");
    }
    info.get(Caller::Reader, "/v1/jobs?all=true").await.expect(S::FORBIDDEN, "forbidden");
    info.get(Caller::Admin, "/v1/jobs?all=true").await.expect(S::OK, "");
    info.get(Caller::FileServer, "/v1/jobs").await.expect(S::UNAUTHORIZED, "unauthorized");
}

#[tokio::test]
async fn a_job_is_refused_for_values_out_of_range_and_for_addresses_that_are_not_public() {
    let info = InfoServer::start().await;
    let url = "http://127.0.0.1:9/a.iso";
    for (new, status, problem) in [
        (json!({ "url": url, "connections": 0 }), S::UNPROCESSABLE_ENTITY, "invalid-value"),
        (json!({ "url": url, "connections": 17 }), S::UNPROCESSABLE_ENTITY, "invalid-value"),
        (json!({ "url": url, "zones": [] }), S::UNPROCESSABLE_ENTITY, "invalid-value"),
        (json!({ "url": url, "start_at": "2100-01-01T00:00:00Z" }), S::UNPROCESSABLE_ENTITY, "invalid-value"),
        (json!({ "url": url }), S::UNPROCESSABLE_ENTITY, "not-fetched"),
    ] {
        info.post(Caller::Reader, "/v1/jobs", new).await.expect(status, problem);
    }
    info.post(Caller::Stranger, "/v1/jobs", json!({ "url": url })).await.expect(S::UNAUTHORIZED, "unauthorized");
}

#[tokio::test]
async fn a_scheduled_job_is_seen_by_its_requester_and_admins_until_it_is_left() {
    let info = InfoServer::start().await;
    let start_at = jiff::Timestamp::now() + std::time::Duration::from_secs(3600);
    let new = json!({ "url": "http://127.0.0.1:9/a.iso", "start_at": start_at });
    let job = info.post(Caller::Reader, "/v1/jobs", new).await.expect(S::CREATED, "");
    let path = format!("/v1/jobs/{}", job["id"].as_str().unwrap());
    for (caller, status, problem) in
        [(Caller::Reader, S::OK, ""), (Caller::Admin, S::OK, ""), (Caller::OtherReader, S::NOT_FOUND, "not-found")]
    {
        info.get(caller, &path).await.expect(status, problem);
    }
    // Through a proxy that holds back open streams the present state arrives nevertheless.
    let state = info.get(Caller::Reader, &format!("{path}/events?once=true")).await;
    assert_eq!((state.status, &state.headers["x-accel-buffering"]), (S::OK, &"no".parse().unwrap()));
    assert!(
        state.text.starts_with("event: job\ndata: {") && state.text.contains("\"state\":\"scheduled\""),
        "{}",
        state.text
    );
    info.delete(Caller::OtherReader, &path).await.expect(S::NOT_FOUND, "not-found");
    let listed = info.get(Caller::Reader, "/v1/jobs?limit=1").await.expect(S::OK, "");
    assert_eq!((listed["jobs"].as_array().unwrap().len(), listed.get("next_cursor")), (1, None));
    info.delete(Caller::Reader, &path).await.expect(S::NO_CONTENT, "");
}

#[tokio::test]
async fn leases_are_for_file_servers_alone_and_of_jobs_that_there_are() {
    let info = InfoServer::start().await;
    let path = format!("/v1/jobs/{}/leases", JobId::new());
    info.call(Caller::Admin, Method::POST, &path, None).await.expect(S::UNAUTHORIZED, "unauthorized");
    info.call(Caller::FileServer, Method::POST, &path, None).await.expect(S::NOT_FOUND, "not-found");
    let report = json!({ "chunks": [{ "n": 0, "sha256": Digest::of(b"0") }] });
    info.put(Caller::Admin, &format!("{path}/1"), report.clone()).await.expect(S::UNAUTHORIZED, "unauthorized");
    info.put(Caller::FileServer, &format!("{path}/1"), report).await.expect(S::NOT_FOUND, "not-found");
}

#[tokio::test]
async fn an_unknown_job_is_found_by_no_route() {
    let info = InfoServer::start().await;
    let path = format!("/v1/jobs/{}", JobId::new());
    info.get(Caller::Admin, &path).await.expect(S::NOT_FOUND, "not-found");
    info.delete(Caller::Admin, &path).await.expect(S::NOT_FOUND, "not-found");
    info.get(Caller::Admin, &format!("{path}/events")).await.expect(S::NOT_FOUND, "not-found");
    let progress = json!({ "runs": [[0, 1]] });
    info.put(Caller::Admin, &format!("{path}/progress"), progress).await.expect(S::NOT_FOUND, "not-found");
}
