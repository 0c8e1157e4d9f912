//! The routes of `src/http/servers`.

use axum::http::{Method, StatusCode as S};
use serde_json::{Value, json};
use wire::{FileId, id::InstanceId, server::MAX_RECONCILE};

use crate::harness::{Caller, InfoServer, JOIN_SECRET, SIZE, digests};

fn heartbeat(secret_sha256: Option<wire::Digest>) -> Value {
    let instance = InstanceId::new();
    json!({ "zone": "eu", "url": "http://127.0.0.1:9", "instance": instance, "secret_sha256": secret_sha256 })
}

#[tokio::test]
async fn a_heartbeat_needs_the_join_secret_or_the_servers_own_token() {
    let info = InfoServer::start().await;
    let put = async |token: Option<&str>, id: &str, beat: Value| {
        info.call_with(token, Method::PUT, &format!("/v1/servers/{id}"), Some(beat)).await
    };
    let own = info.token(Caller::FileServer);
    for (token, id, beat, status, problem) in [
        (None, "fs-9", heartbeat(None), S::UNAUTHORIZED, "unauthorized"),
        (info.token(Caller::Admin), "fs-9", heartbeat(None), S::UNAUTHORIZED, "unauthorized"),
        (own, "fs-9", heartbeat(None), S::UNAUTHORIZED, "unauthorized"),
        (own, "fs-2", heartbeat(None), S::UNAUTHORIZED, "unauthorized"),
        (Some(JOIN_SECRET), "fs-9", heartbeat(None), S::CONFLICT, "taken"),
        (Some(JOIN_SECRET), "fs-1", heartbeat(Some(wire::Digest::of(b"another"))), S::CONFLICT, "taken"),
        (Some(JOIN_SECRET), "fs-9", heartbeat(Some(wire::Digest::of(b"new"))), S::OK, ""),
    ] {
        put(token, id, beat).await.expect(status, problem);
    }
    let mut odd = heartbeat(None);
    odd["url"] = json!("ftp://127.0.0.1");
    put(own, "fs-1", odd).await.expect(S::UNPROCESSABLE_ENTITY, "invalid-value");
}

#[tokio::test]
async fn live_servers_are_listed_until_they_leave_and_each_speaks_for_itself_alone() {
    let info = InfoServer::start().await;
    let listed = async || {
        let list = info.get(Caller::Reader, "/v1/servers").await.expect(S::OK, "");
        list["servers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|server| server["id"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(listed().await, ["fs-1", "fs-2"]);
    info.delete(Caller::FileServer, "/v1/servers/fs-2").await.expect(S::FORBIDDEN, "forbidden");
    info.delete(Caller::OtherFileServer, "/v1/servers/fs-2").await.expect(S::NO_CONTENT, "");
    assert_eq!(listed().await, ["fs-1"]);
    info.get(Caller::FileServer, "/v1/servers").await.expect(S::UNAUTHORIZED, "unauthorized");
}

#[tokio::test]
async fn a_server_reads_its_own_log_and_gets_a_snapshot_without_a_cursor() {
    let info = InfoServer::start().await;
    let id = info.published("a.iso").await;
    let path = "/v1/servers/fs-1/events";
    let snapshot = info.get(Caller::FileServer, path).await;
    assert_eq!(snapshot.status, S::OK);
    let header: Value = serde_json::from_str(snapshot.text.lines().next().unwrap()).unwrap();
    assert!(header["snapshot"] == json!(true) && snapshot.text.contains(&id), "{}", snapshot.text);
    let after = format!("{path}?epoch={}&after=0", header["epoch"].as_str().unwrap());
    let log = info.get(Caller::FileServer, &after).await;
    assert!(log.text.lines().count() > 1, "{}", log.text);
    info.get(Caller::OtherFileServer, path).await.expect(S::FORBIDDEN, "forbidden");
    info.get(Caller::Admin, path).await.expect(S::UNAUTHORIZED, "unauthorized");
    let long = info.get(Caller::FileServer, &format!("{path}?wait=31")).await;
    long.expect(S::UNPROCESSABLE_ENTITY, "invalid-value");
}

#[tokio::test]
async fn servers_that_claim_to_be_ahead_of_the_log_begin_one_epoch_at_most() {
    let info = InfoServer::start().await;
    info.published("a.iso").await;
    let read = async |caller: Caller, id: &str, query: &str| {
        let answer = info.get(caller, &format!("/v1/servers/{id}/events{query}")).await;
        assert_eq!(answer.status, S::OK, "{}", answer.text);
        serde_json::from_str::<Value>(answer.text.lines().next().unwrap()).unwrap()
    };
    let first = read(Caller::FileServer, "fs-1", "").await["epoch"].as_str().unwrap().to_owned();
    let ahead = |epoch: &str| format!("?epoch={epoch}&after=0&seen={}", u64::MAX);
    let header = read(Caller::FileServer, "fs-1", &ahead(&first)).await;
    let second = header["epoch"].as_str().unwrap().to_owned();
    assert_ne!(second, first, "the database may have been put back while this process did not run");
    for (caller, id) in [(Caller::FileServer, "fs-1"), (Caller::OtherFileServer, "fs-2")] {
        let header = read(caller, id, &ahead(&second)).await;
        assert_eq!((&header["epoch"], &header["snapshot"]), (&json!(second), &json!(true)), "{id}");
    }
}

#[tokio::test]
async fn reconciliation_tells_kept_deleted_and_unknown_files_apart_and_orphans_can_be_adopted() {
    let info = InfoServer::start().await;
    let (kept, deleted) = (info.published("a.iso").await, info.published("b.iso").await);
    info.delete(Caller::Publisher, &format!("/v1/files/{deleted}")).await.expect(S::ACCEPTED, "");
    let unknown = FileId::new().to_string();
    let question = json!({ "files": [kept, deleted, unknown] });
    let path = "/v1/servers/fs-1/reconcile";
    let answer = info.post(Caller::FileServer, path, question.clone()).await.expect(S::OK, "");
    assert_eq!(answer, json!({ "keep": [kept], "delete": [deleted], "unknown": [unknown] }));
    info.post(Caller::OtherFileServer, path, question).await.expect(S::FORBIDDEN, "forbidden");
    let many: Vec<FileId> = std::iter::repeat_with(FileId::new).take(MAX_RECONCILE + 1).collect();
    let too_many = info.post(Caller::FileServer, path, json!({ "files": many })).await;
    too_many.expect(S::UNPROCESSABLE_ENTITY, "invalid-value");

    let listed = info.get(Caller::Admin, "/v1/unknown-files").await.expect(S::OK, "");
    assert_eq!((&listed["servers"][0]["files"], &listed["files"][0]["file"]), (&json!(1), &json!(unknown)));
    let adoption = json!({ "name": "c.iso", "size": SIZE, "chunk_size": 1 << 20,
        "sha256": wire::Digest::of(b"012"), "chunks": digests() });
    let adopt = async |file: &str| info.post(Caller::Admin, &format!("/v1/files/{file}/adopt"), adoption.clone()).await;
    let by_publisher = info.post(Caller::Publisher, &format!("/v1/files/{unknown}/adopt"), adoption.clone()).await;
    by_publisher.expect(S::FORBIDDEN, "forbidden");
    adopt(&unknown).await.expect(S::CREATED, "");
    adopt(&FileId::new().to_string()).await.expect(S::CONFLICT, "not-unknown");
    let none = info.get(Caller::Admin, "/v1/unknown-files").await.expect(S::OK, "");
    assert_eq!(none["files"], json!([]));
}

#[tokio::test]
async fn orphaned_files_page_to_their_end_by_server_and_file_for_admins_alone() {
    let info = InfoServer::start().await;
    for (server, id) in [(Caller::FileServer, "fs-1"), (Caller::OtherFileServer, "fs-2")] {
        let files: Vec<FileId> = std::iter::repeat_with(FileId::new).take(2).collect();
        let path = format!("/v1/servers/{id}/reconcile");
        info.post(server, &path, json!({ "files": files })).await.expect(S::OK, "");
    }
    let path = "/v1/unknown-files";
    let first = info.get(Caller::Admin, &format!("{path}?limit=3")).await.expect(S::OK, "");
    assert_eq!(first["files"].as_array().unwrap().len(), 3);
    let cursor = first["next_cursor"].as_str().unwrap();
    let last = info.get(Caller::Admin, &format!("{path}?limit=3&cursor={cursor}")).await.expect(S::OK, "");
    assert_eq!((last["files"].as_array().unwrap().len(), last.get("next_cursor")), (1, None));
    let one = info.get(Caller::Admin, &format!("{path}?server=fs-2&limit=2")).await.expect(S::OK, "");
    assert_eq!((one["files"].as_array().unwrap().len(), one.get("next_cursor")), (2, None));
    for wrong in ["limit=0", "limit=1001", "cursor=fs-1", "cursor=fs-1/x"] {
        let answer = info.get(Caller::Admin, &format!("{path}?{wrong}")).await;
        answer.expect(S::UNPROCESSABLE_ENTITY, "invalid-value");
    }
    info.get(Caller::Publisher, path).await.expect(S::FORBIDDEN, "forbidden");
}

#[tokio::test]
async fn a_server_is_drained_by_admins_and_only_when_others_can_hold_its_files() {
    let info = InfoServer::start().await;
    let path = "/v1/servers/fs-1/drain";
    let status = info.get(Caller::Reader, path).await.expect(S::OK, "");
    assert_eq!((&status["draining"], &status["files"]), (&json!(false), &json!(0)));
    info.call(Caller::Publisher, Method::POST, path, None).await.expect(S::FORBIDDEN, "forbidden");
    info.call(Caller::Admin, Method::POST, path, None).await.expect(S::ACCEPTED, "");
    info.delete(Caller::Admin, path).await.expect(S::NO_CONTENT, "");
    info.published("a.iso").await;
    let stuck = info.call(Caller::Admin, Method::POST, path, None).await.expect(S::CONFLICT, "too-few-servers");
    assert!(stuck["detail"].as_str().unwrap().contains("no other live file server"), "{stuck}");
    info.get(Caller::Admin, "/v1/servers/fs-9/drain").await.expect(S::NOT_FOUND, "not-found");
}
