//! The routes of `src/http/files`.

use axum::http::{Method, Request, StatusCode as S};
use ddm_info_server::{db::Database, replication::removal};
use jiff::Timestamp;
use serde_json::{Value, json};
use wire::{Digest, FileId};

use crate::harness::{Caller, InfoServer, SIZE, commit, digests};

#[tokio::test]
async fn a_repeated_announcement_makes_one_file_and_brings_a_token_of_its_own() {
    let info = InfoServer::start().await;
    let post = async |key: &str, path: &str, body: &Value| {
        let request = Request::builder().method(Method::POST).uri(path).header("idempotency-key", key);
        info.send(request, info.token(Caller::Publisher), Some(body.clone())).await
    };
    let new = json!({ "name": "a.iso", "size": 10 });
    let first = post("k1", "/v1/files", &new).await.expect(S::CREATED, "");
    let again = post("k1", "/v1/files", &new).await.expect(S::CREATED, "");
    for member in ["id", "targets", "quorum", "chunk_size"] {
        assert_eq!(first[member], again[member], "{member}");
    }
    assert_ne!(first["upload"]["token"], again["upload"]["token"]);
    let hash = again["upload"]["token"].as_str().unwrap().parse::<wire::token::Token>().unwrap().hash();
    let grant = info.post(Caller::FileServer, "/v1/tokens/introspect", json!({ "token_hash": hash })).await;
    assert_eq!(grant.expect(S::OK, "")["file"], first["id"]);
    let other = json!({ "name": "b.iso", "size": 10 });
    post("k1", "/v1/files", &other).await.expect(S::UNPROCESSABLE_ENTITY, "invalid-value");
    assert_ne!(post("k2", "/v1/files", &new).await.expect(S::CREATED, "")["id"], first["id"]);
    post("", "/v1/files", &new).await.expect(S::UNPROCESSABLE_ENTITY, "invalid-value");
}

#[tokio::test]
async fn the_first_answer_to_a_key_is_the_answer_to_its_repetitions() {
    let info = InfoServer::start().await;
    let add = async |key: &str, email: &str| {
        let request = Request::builder().method(Method::POST).uri("/v1/users").header("idempotency-key", key);
        let user = json!({ "email": email, "password": crate::harness::PASSWORD });
        info.send(request, info.token(Caller::Admin), Some(user)).await
    };
    let first = add("k1", "new@x").await;
    first.expect(S::CREATED, "");
    let again = add("k1", "new@x").await;
    assert_eq!((again.status, &again.text), (S::CREATED, &first.text));
    add("k2", "new@x").await.expect(S::CONFLICT, "taken");
    add("k2", "other@x").await.expect(S::CREATED, "");
    add("k1", "other@x").await.expect(S::UNPROCESSABLE_ENTITY, "invalid-value");
}

#[tokio::test]
async fn a_file_is_announced_by_publishers_alone() {
    let info = InfoServer::start().await;
    let new = || json!({ "name": "a.iso", "size": SIZE });
    for (caller, status, problem) in [
        (Caller::Stranger, S::UNAUTHORIZED, "unauthorized"),
        (Caller::FileServer, S::UNAUTHORIZED, "unauthorized"),
        (Caller::Reader, S::FORBIDDEN, "forbidden"),
        (Caller::Publisher, S::CREATED, ""),
        (Caller::Admin, S::CREATED, ""),
    ] {
        info.post(caller, "/v1/files", new()).await.expect(status, problem);
    }
    for wrong in [json!({ "quorum": 0 }), json!({ "media_type": "image" }), json!({ "policy": { "zones": [] } })] {
        let mut body = new();
        body.as_object_mut().unwrap().extend(wrong.as_object().unwrap().clone());
        let answer = info.post(Caller::Publisher, "/v1/files", body).await;
        answer.expect(S::UNPROCESSABLE_ENTITY, "invalid-value");
    }
}

#[tokio::test]
async fn an_upload_that_too_few_servers_can_take_is_refused_with_both_numbers() {
    let info = InfoServer::start().await;
    let new = json!({ "name": "a.iso", "size": SIZE, "quorum": 3 });
    let refused = info.post(Caller::Publisher, "/v1/files", new).await.expect(S::CONFLICT, "too-few-servers");
    assert_eq!((&refused["quorum"], &refused["live"]), (&json!(3), &json!(2)));
}

#[tokio::test]
async fn a_commit_is_idempotent_and_other_content_is_refused() {
    let info = InfoServer::start().await;
    let id = info.published("a.iso").await;
    let path = format!("/v1/files/{id}/commit");
    let again = info.post(Caller::Publisher, &path, commit()).await.expect(S::OK, "");
    assert_eq!((&again["state"], &again["live_replicas"]), (&json!("available"), &json!(2)));
    let other = json!({ "sha256": Digest::of(b"other"), "chunks": digests() });
    info.post(Caller::Publisher, &path, other).await.expect(S::CONFLICT, "content-fixed");
    let short = json!({ "sha256": Digest::of(b"012"), "chunks": [Digest::of(b"0")] });
    info.post(Caller::Publisher, &path, short).await.expect(S::UNPROCESSABLE_ENTITY, "invalid-value");
    info.post(Caller::OtherPublisher, &path, commit()).await.expect(S::FORBIDDEN, "forbidden");
}

#[tokio::test]
async fn a_list_pages_to_its_end_and_refuses_limits_beyond_its_bounds() {
    let info = InfoServer::start().await;
    for name in ["a.iso", "b.iso", "c.img"] {
        info.announced(name).await;
    }
    let first = info.get(Caller::Reader, "/v1/files?limit=2").await.expect(S::OK, "");
    assert_eq!(first["files"].as_array().unwrap().len(), 2);
    let cursor = first["next_cursor"].as_str().unwrap();
    let last = info.get(Caller::Reader, &format!("/v1/files?limit=2&cursor={cursor}")).await.expect(S::OK, "");
    assert_eq!((last["files"].as_array().unwrap().len(), last.get("next_cursor")), (1, None));
    let all = info.get(Caller::Reader, "/v1/files?limit=3").await.expect(S::OK, "");
    assert_eq!((all["files"].as_array().unwrap().len(), all.get("next_cursor")), (3, None));
    let found = info.get(Caller::Reader, "/v1/files?q=.iso&limit=500").await.expect(S::OK, "");
    assert_eq!(found["files"].as_array().unwrap().len(), 2);
    for wrong in ["limit=0", "limit=501", "cursor=no-id"] {
        let answer = info.get(Caller::Reader, &format!("/v1/files?{wrong}")).await;
        answer.expect(S::UNPROCESSABLE_ENTITY, "invalid-value");
    }
    info.get(Caller::FileServer, "/v1/files").await.expect(S::UNAUTHORIZED, "unauthorized");
}

#[tokio::test]
async fn details_hold_a_token_for_a_published_file_unless_none_is_asked_for() {
    let info = InfoServer::start().await;
    let id = info.published("a.iso").await;
    let details = info.get(Caller::Reader, &format!("/v1/files/{id}")).await.expect(S::OK, "");
    assert!(details["download"]["token"].as_str().unwrap().starts_with("ddmd_"));
    assert_eq!(details["locations"].as_array().unwrap().len(), 2);
    let looked = info.get(Caller::Reader, &format!("/v1/files/{id}?grant=false")).await.expect(S::OK, "");
    assert!(looked["download"].is_null());
    info.get(Caller::Reader, &format!("/v1/files/{id}?zone=NOT"))
        .await
        .expect(S::UNPROCESSABLE_ENTITY, "invalid-value");
    info.get(Caller::Stranger, &format!("/v1/files/{id}")).await.expect(S::UNAUTHORIZED, "unauthorized");
}

#[tokio::test]
async fn a_file_that_is_not_published_has_no_metalink_and_an_unknown_one_nothing() {
    let info = InfoServer::start().await;
    let id = info.announced("a.iso").await;
    info.get(Caller::Reader, &format!("/v1/files/{id}/metalink")).await.expect(S::CONFLICT, "not-available");
    let preheat = json!({ "zone": "eu" });
    let refused = info.post(Caller::Publisher, &format!("/v1/files/{id}/preheat"), preheat).await;
    refused.expect(S::CONFLICT, "not-available");
    let unknown = FileId::new();
    for path in ["", "/manifest", "/metalink", "/replicas"] {
        let answer = info.get(Caller::Reader, &format!("/v1/files/{unknown}{path}")).await;
        answer.expect(S::NOT_FOUND, "no-such-file");
    }
    info.get(Caller::Reader, "/v1/files/no-id").await.expect(S::NOT_FOUND, "not-found");
    let published = info.published("b.iso").await;
    let metalink = info.get(Caller::Reader, &format!("/v1/files/{published}/metalink")).await;
    assert!(metalink.status == S::OK && metalink.text.contains("<metalink"), "{}", metalink.text);
}

#[tokio::test]
async fn a_file_is_removed_by_its_publisher_or_an_admin() {
    let info = InfoServer::start().await;
    let (own, others) = (info.announced("a.iso").await, info.announced("b.iso").await);
    for caller in [Caller::Reader, Caller::OtherPublisher] {
        info.delete(caller, &format!("/v1/files/{own}")).await.expect(S::FORBIDDEN, "forbidden");
    }
    info.delete(Caller::Publisher, &format!("/v1/files/{own}")).await.expect(S::ACCEPTED, "");
    info.delete(Caller::Admin, &format!("/v1/files/{others}")).await.expect(S::ACCEPTED, "");
    info.get(Caller::Admin, &format!("/v1/files/{own}")).await.expect(S::NOT_FOUND, "no-such-file");
}

#[tokio::test]
async fn a_removal_of_unfinished_uploads_leaves_a_published_file_alone() {
    let info = InfoServer::start().await;
    let (published, begun) = (info.published("a.iso").await, info.announced("b.iso").await);
    let path = |id: &str| format!("/v1/files/{id}?state=uploading");
    info.delete(Caller::Publisher, &path(&published)).await.expect(S::CONFLICT, "already-published");
    info.get(Caller::Publisher, &format!("/v1/files/{published}")).await.expect(S::OK, "");
    info.delete(Caller::Publisher, &path(&begun)).await.expect(S::ACCEPTED, "");
    info.get(Caller::Publisher, &format!("/v1/files/{begun}")).await.expect(S::NOT_FOUND, "no-such-file");
    let other = format!("/v1/files/{published}?state=available");
    info.delete(Caller::Publisher, &other).await.expect(S::BAD_REQUEST, "bad-request");
}

#[tokio::test]
async fn an_upload_that_is_committed_after_its_selection_as_abandoned_is_not_removed() {
    let info = InfoServer::start().await;
    let (committed, begun) = (info.announced("a.iso").await, info.announced("b.iso").await);
    let db = Database::open(&info.folder.path().join("catalogue.sqlite")).await.unwrap();
    let selected = db.abandoned_uploads(Timestamp::MAX, 10).await.unwrap();
    assert_eq!(selected.len(), 2);
    for server in [Caller::FileServer, Caller::OtherFileServer] {
        info.report(server, &committed).await.expect(S::NO_CONTENT, "");
    }
    let path = format!("/v1/files/{committed}/commit");
    info.post(Caller::Publisher, &path, commit()).await.expect(S::OK, "");
    let (now, early) = (Timestamp::now(), Timestamp::UNIX_EPOCH);
    for (before, removed) in [(early, Vec::new()), (Timestamp::MAX, vec![begun.clone()])] {
        let mut write = db.write().await.unwrap();
        let mut found = Vec::new();
        for file in &selected {
            if removal::remove_upload(&mut write, *file, before, now).await.unwrap().is_some() {
                found.push(file.to_string());
            }
        }
        write.commit().await.unwrap();
        assert_eq!(found, removed);
    }
    info.get(Caller::Publisher, &format!("/v1/files/{committed}")).await.expect(S::OK, "");
    db.close().await;
}

#[tokio::test]
async fn a_replica_is_reported_by_its_own_server_with_chunks_that_the_file_has() {
    let info = InfoServer::start().await;
    let id = info.announced("a.iso").await;
    let path = format!("/v1/files/{id}/replicas/fs-1");
    let report = |runs| json!({ "counter": 1, "runs": runs });
    info.put(Caller::OtherFileServer, &path, report(json!([]))).await.expect(S::FORBIDDEN, "forbidden");
    info.put(Caller::Admin, &path, report(json!([]))).await.expect(S::UNAUTHORIZED, "unauthorized");
    info.put(Caller::FileServer, &path, report(json!([[0, 4]]))).await.expect(S::UNPROCESSABLE_ENTITY, "invalid-value");
    let early = json!({ "counter": 1, "runs": [[0, 2]], "root": Digest::root_of(&digests()) });
    info.put(Caller::FileServer, &path, early).await.expect(S::UNPROCESSABLE_ENTITY, "invalid-value");
    info.put(Caller::FileServer, &path, report(json!([[0, 3]]))).await.expect(S::NO_CONTENT, "");
    info.delete(Caller::Publisher, &format!("/v1/files/{id}")).await.expect(S::ACCEPTED, "");
    info.put(Caller::FileServer, &path, report(json!([[0, 3]]))).await.expect(S::GONE, "deleted");
    info.put(Caller::FileServer, &path, report(json!([]))).await.expect(S::NO_CONTENT, "");
    let unknown = format!("/v1/files/{}/replicas/fs-1", FileId::new());
    info.put(Caller::FileServer, &unknown, report(json!([[0, 1]]))).await.expect(S::NOT_FOUND, "no-such-file");
}

#[tokio::test]
async fn a_file_is_renamed_by_its_publisher_or_an_admin_and_found_by_its_new_name() {
    let info = InfoServer::start().await;
    let id = info.published("first.iso").await;
    let path = format!("/v1/files/{id}");
    let name = |name: &str| json!({ "name": name });
    for caller in [Caller::Reader, Caller::OtherPublisher] {
        info.patch(caller, &path, name("x.iso")).await.expect(S::FORBIDDEN, "forbidden");
    }
    info.patch(Caller::Publisher, &path, name("../x")).await.expect(S::UNPROCESSABLE_ENTITY, "invalid-body");
    info.patch(Caller::Publisher, &path, name("second.iso")).await.expect(S::NO_CONTENT, "");
    let found = async |part: &str| {
        let list = info.get(Caller::Reader, &format!("/v1/files?q={part}")).await.expect(S::OK, "");
        list["files"]
            .as_array()
            .unwrap()
            .iter()
            .map(|file| file["name"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(found("second").await, ["second.iso"]);
    assert!(found("first").await.is_empty());
    info.patch(Caller::Admin, &path, name("third.iso")).await.expect(S::NO_CONTENT, "");
    assert_eq!(info.get(Caller::Reader, &path).await.expect(S::OK, "")["name"], "third.iso");
    info.delete(Caller::Publisher, &path).await.expect(S::ACCEPTED, "");
    info.patch(Caller::Publisher, &path, name("x.iso")).await.expect(S::NOT_FOUND, "no-such-file");
    assert!(found("third").await.is_empty());
}

#[tokio::test]
async fn a_list_is_cut_to_ids_that_begin_so_and_to_a_size() {
    let info = InfoServer::start().await;
    let (id, other) = (info.published("a.iso").await.to_string(), info.announced("b.iso").await.to_string());
    let found = async |query: &str| {
        let list = info.get(Caller::Reader, &format!("/v1/files?{query}")).await.expect(S::OK, "");
        list["files"].as_array().unwrap().iter().map(|file| file["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(found(&format!("id={}", &id[..35])).await, std::slice::from_ref(&id));
    assert_eq!(found(&format!("id={}", &other[..35])).await, std::slice::from_ref(&other));
    assert_eq!(found("id=0").await.len(), 2);
    assert!(found("id=f").await.is_empty());
    assert_eq!(found(&format!("size={SIZE}")).await, std::slice::from_ref(&id), "an unfinished upload is no content");
    assert!(found(&format!("size={}", SIZE + 1)).await.is_empty());
    assert_eq!(found(&format!("size={SIZE}&q=a.iso")).await, [id]);
    let answer = info.get(Caller::Reader, "/v1/files?id=no-hex").await;
    answer.expect(S::UNPROCESSABLE_ENTITY, "invalid-value");
}

#[tokio::test]
async fn a_policy_is_raised_and_lowered_and_a_preheat_is_undone() {
    let info = InfoServer::start().await;
    let id = info.published("a.iso").await;
    let path = format!("/v1/files/{id}/policy");
    let before = info.get(Caller::Reader, &path).await.expect(S::OK, "");
    assert_eq!((&before["policy"]["replicas"], &before["preheats"]), (&json!(3), &json!([])));
    for caller in [Caller::Reader, Caller::OtherPublisher] {
        info.patch(caller, &path, json!({ "replicas": 1 })).await.expect(S::FORBIDDEN, "forbidden");
    }
    let would = info.patch(Caller::Publisher, &path, json!({ "replicas": 1, "dry_run": true })).await.expect(S::OK, "");
    assert_eq!((would["dropped"].as_array().unwrap().len(), &would["policy"]["replicas"]), (1, &json!(1)));
    assert_eq!(info.get(Caller::Reader, &path).await.expect(S::OK, ""), before, "a dry run changes nothing");
    info.patch(Caller::Publisher, &path, json!({ "replicas": 1 })).await.expect(S::OK, "");
    let raised = info.patch(Caller::Admin, &path, json!({ "replicas": 5 })).await.expect(S::OK, "");
    assert_eq!((&raised["dropped"], &raised["short"]), (&json!([]), &json!(3)));
    let zones = info.get(Caller::Reader, &format!("/v1/files/{id}/replicas")).await.expect(S::OK, "");
    assert_eq!(zones["zones"][""]["wanted"], 5);

    let preheat = |replicas: u32| json!({ "zone": "eu", "replicas": replicas });
    for replicas in [4, 2] {
        let answer = info.post(Caller::Publisher, &format!("/v1/files/{id}/preheat"), preheat(replicas)).await;
        answer.expect(S::ACCEPTED, "");
        let now = info.get(Caller::Reader, &path).await.expect(S::OK, "");
        assert_eq!(now["preheats"], json!([preheat(replicas)]), "a preheat is lowered as well");
    }
    info.post(Caller::Publisher, &format!("/v1/files/{id}/preheat"), json!({ "zone": "eu" }))
        .await
        .expect(S::ACCEPTED, "");
    let now = info.get(Caller::Reader, &path).await.expect(S::OK, "");
    assert_eq!(now["preheats"], json!([preheat(3)]), "the default raises it and lowers nothing");
    let preheat_path = format!("/v1/files/{id}/preheat");
    info.post(Caller::OtherPublisher, &preheat_path, preheat(1)).await.expect(S::ACCEPTED, "");
    let now = info.get(Caller::Reader, &path).await.expect(S::OK, "");
    assert_eq!(now["preheats"], json!([preheat(3)]), "another publisher lowers nothing");
    info.post(Caller::OtherPublisher, &preheat_path, preheat(4)).await.expect(S::FORBIDDEN, "forbidden");
    let now = info.get(Caller::Reader, &path).await.expect(S::OK, "");
    assert_eq!(now["preheats"], json!([preheat(3)]), "and asks for no more than the default");
    info.post(Caller::Admin, &preheat_path, preheat(4)).await.expect(S::ACCEPTED, "");
    let undone = info.patch(Caller::Publisher, &path, json!({ "preheats": [] })).await.expect(S::OK, "");
    assert_eq!((&undone["preheats"], &undone["policy"]["replicas"]), (&json!([]), &json!(5)));
    let moved = info.patch(Caller::Publisher, &path, json!({ "zones": ["moon"] })).await.expect(S::OK, "");
    assert_eq!(moved["dropped"].as_array().unwrap().len(), 2, "{moved}");
    let anywhere = info.patch(Caller::Publisher, &path, json!({ "zones": [] })).await.expect(S::OK, "");
    assert_eq!(anywhere["policy"].get("zones"), None);
    for wrong in [json!({ "replicas": 0 }), json!({ "preheats": [{ "zone": "eu", "replicas": 0 }] })] {
        info.patch(Caller::Publisher, &path, wrong).await.expect(S::UNPROCESSABLE_ENTITY, "invalid-value");
    }
}

#[tokio::test]
async fn no_route_shows_a_sha256_that_a_holder_disputes() {
    let info = InfoServer::start().await;
    let id = info.published("a.iso").await;
    let (claimed, path) = (Digest::of(b"012").to_string(), format!("/v1/files/{id}"));
    let routes = ["", "/manifest", "/metalink"].map(|route| format!("{path}{route}"));
    let routes = [&routes[..], &["/v1/files".to_owned()]].concat();
    for route in &routes {
        assert!(info.get(Caller::Reader, route).await.text.contains(&claimed), "{route}");
    }
    let report =
        json!({ "counter": 2, "runs": [[0, 3]], "root": Digest::root_of(&digests()), "sha256": Digest::of(b"x") });
    let reported = info.put(Caller::FileServer, &format!("{path}/replicas/fs-1"), report).await;
    reported.expect(S::NO_CONTENT, "");
    for route in &routes {
        let answer = info.get(Caller::Reader, route).await;
        assert!(answer.status == S::OK && !answer.text.contains(&claimed), "{route}: {}", answer.text);
    }
    let again = info.post(Caller::Publisher, &format!("{path}/commit"), commit()).await;
    assert!(again.expect(S::OK, "")["sha256"].is_null(), "{}", again.text);
    let replicas = info.get(Caller::Reader, &format!("{path}/replicas")).await.expect(S::OK, "");
    assert_eq!(replicas["disputes"], json!([{ "server": "fs-1", "sha256": Digest::of(b"x") }]));
}
