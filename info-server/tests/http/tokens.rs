//! The routes of `src/http/tokens`, and what a download token opens here.

use axum::http::{Method, StatusCode as S};
use serde_json::{Value, json};
use wire::{Digest, TokenId};

use crate::harness::{Caller, InfoServer};

async fn issued(info: &InfoServer, caller: Caller, file: &str) -> Value {
    info.call(caller, Method::POST, &format!("/v1/files/{file}/tokens"), None).await.expect(S::CREATED, "")
}

#[tokio::test]
async fn a_token_lives_no_longer_than_the_settings_allow_and_names_zones_or_none() {
    let info = InfoServer::start_with(&["--download-lifetime", "60s"]).await;
    let id = info.published("a.iso").await;
    let path = format!("/v1/files/{id}/tokens");
    for (body, status, problem) in [
        (json!({}), S::CREATED, ""),
        (json!({ "lifetime_s": 60, "zones": ["eu"] }), S::CREATED, ""),
        (json!({ "lifetime_s": 0 }), S::UNPROCESSABLE_ENTITY, "invalid-value"),
        (json!({ "lifetime_s": 61 }), S::UNPROCESSABLE_ENTITY, "invalid-value"),
        (json!({ "zones": [] }), S::UNPROCESSABLE_ENTITY, "invalid-value"),
    ] {
        info.post(Caller::Reader, &path, body).await.expect(status, problem);
    }
    info.post(Caller::Stranger, &path, json!({})).await.expect(S::UNAUTHORIZED, "unauthorized");
    let unpublished = info.announced("b.iso").await;
    let early = info.post(Caller::Reader, &format!("/v1/files/{unpublished}/tokens"), json!({})).await;
    early.expect(S::CONFLICT, "not-available");
}

#[tokio::test]
async fn a_file_server_gets_tokens_for_the_files_alone_that_it_is_to_hold() {
    let info = InfoServer::start_with(&["--quorum", "1", "--default-replicas", "1"]).await;
    let id = info.announced("a.iso").await;
    let details = info.get(Caller::Admin, &format!("/v1/files/{id}/replicas")).await.expect(S::OK, "");
    let assigned = details["replicas"][0]["server"].as_str().unwrap();
    let (holder, other) = match assigned {
        "fs-1" => (Caller::FileServer, Caller::OtherFileServer),
        _ => (Caller::OtherFileServer, Caller::FileServer),
    };
    info.report(holder, &id).await.expect(S::NO_CONTENT, "");
    info.post(Caller::Publisher, &format!("/v1/files/{id}/commit"), crate::harness::commit()).await.expect(S::OK, "");
    issued(&info, holder, &id).await;
    let path = format!("/v1/files/{id}/tokens");
    info.call(other, Method::POST, &path, None).await.expect(S::FORBIDDEN, "forbidden");
    info.get(other, &format!("/v1/files/{id}")).await.expect(S::FORBIDDEN, "forbidden");
}

#[tokio::test]
async fn a_token_is_revoked_by_its_owner_or_an_admin_and_is_unknown_to_others() {
    let info = InfoServer::start().await;
    let id = info.published("a.iso").await;
    let token = issued(&info, Caller::Reader, &id).await;
    let path = format!("/v1/tokens/{}", token["token_id"].as_str().unwrap());
    info.delete(Caller::OtherReader, &path).await.expect(S::NOT_FOUND, "not-found");
    let question =
        json!({ "token_hash": token["token"].as_str().unwrap().parse::<wire::token::Token>().unwrap().hash() });
    let introspect = "/v1/tokens/introspect";
    let grant = info.post(Caller::FileServer, introspect, question.clone()).await.expect(S::OK, "");
    assert_eq!(grant["file"], json!(id));
    info.post(Caller::Admin, introspect, question.clone()).await.expect(S::UNAUTHORIZED, "unauthorized");
    for caller in [Caller::Reader, Caller::Admin] {
        info.delete(caller, &path).await.expect(S::NO_CONTENT, "");
    }
    info.post(Caller::FileServer, introspect, question).await.expect(S::NOT_FOUND, "not-found");
    let unknown = json!({ "token_hash": Digest::of(b"unknown") });
    info.post(Caller::FileServer, introspect, unknown).await.expect(S::NOT_FOUND, "not-found");
    info.delete(Caller::Admin, &format!("/v1/tokens/{}", TokenId::new())).await.expect(S::NOT_FOUND, "not-found");
}

#[tokio::test]
async fn a_download_token_opens_the_manifest_of_its_own_file_and_nothing_else() {
    let info = InfoServer::start().await;
    let (own, other) = (info.published("a.iso").await, info.published("b.iso").await);
    let token = issued(&info, Caller::Reader, &own).await;
    let token = token["token"].as_str().unwrap();
    for (path, status, problem) in [
        (format!("/v1/files/{own}/manifest"), S::OK, ""),
        (format!("/v1/files/{other}/manifest"), S::FORBIDDEN, "forbidden"),
        (format!("/v1/files/{own}"), S::UNAUTHORIZED, "unauthorized"),
        ("/v1/files".to_owned(), S::UNAUTHORIZED, "unauthorized"),
    ] {
        info.call_with(Some(token), Method::GET, &path, None).await.expect(status, problem);
    }
}
