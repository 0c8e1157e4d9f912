//! The routes of `src/http/system`, and what no route answers.

use axum::http::{Method, StatusCode as S, header};
use serde_json::json;

use crate::harness::{Caller, InfoServer, PASSWORD};

#[tokio::test]
async fn operators_see_health_metrics_and_the_description_without_a_token() {
    let info = InfoServer::start().await;
    assert_eq!(info.get(Caller::Stranger, "/livez").await.expect(S::OK, "")["status"], json!("alive"));
    let ready = info.get(Caller::Stranger, "/readyz").await.expect(S::OK, "");
    assert_eq!(
        (&ready["status"], &ready["database"], &ready["events_waiting"]),
        (&json!("ready"), &json!("ok"), &json!(0))
    );
    let metrics = info.get(Caller::Stranger, "/metrics").await;
    assert!(
        metrics.status == S::OK && metrics.text.contains("ddm_info_server_servers_live{zone=\"eu\"} 2"),
        "{}",
        metrics.text
    );
    let described = info.get(Caller::Stranger, "/openapi.json").await.expect(S::OK, "");
    assert!(described["paths"]["/v1/files/{id}"]["get"].is_object());
    let root = info.get(Caller::Stranger, "/").await;
    assert_eq!(root.headers[header::CONTENT_TYPE], "text/html; charset=utf-8");
    for expected in ["DDM info-server", "href=\"docs/index.html\"", "href=\"openapi.json\""] {
        assert!(root.status == S::OK && root.text.contains(expected), "{}", root.text);
    }
    let docs = info.get(Caller::Stranger, "/docs").await;
    assert_eq!(
        (docs.status, docs.headers[header::LOCATION].to_str().unwrap()),
        (S::PERMANENT_REDIRECT, "docs/index.html")
    );
}

#[tokio::test]
async fn addresses_methods_and_tokens_that_are_wrong_get_problem_documents() {
    let info = InfoServer::start().await;
    info.get(Caller::Stranger, "/v1/nothing").await.expect(S::NOT_FOUND, "not-found");
    info.call(Caller::Stranger, Method::PUT, "/v1/files", None)
        .await
        .expect(S::METHOD_NOT_ALLOWED, "method-not-allowed");
    let garbled = info.call_with(Some("ddms_garbled"), Method::GET, "/v1/files", None).await;
    garbled.expect(S::UNAUTHORIZED, "unauthorized");
    assert!(garbled.headers.contains_key(header::WWW_AUTHENTICATE));
}

#[tokio::test]
async fn nothing_is_stored_while_the_data_folder_is_not_the_one_of_the_start() {
    let info = InfoServer::start().await;
    let add = async |email| {
        let body = json!({ "email": email, "password": PASSWORD });
        info.post(Caller::Admin, "/v1/users", body).await
    };
    add("before@x").await.expect(S::CREATED, "");
    let (place, aside) = (info.folder.path().join("lock"), info.folder.path().join("aside"));
    std::fs::rename(&place, &aside).unwrap();
    let refused = add("meanwhile@x").await;
    refused.expect(S::SERVICE_UNAVAILABLE, "storage-failing");
    assert_eq!(info.get(Caller::Stranger, "/readyz").await.status, S::SERVICE_UNAVAILABLE);
    std::fs::rename(&aside, &place).unwrap();
    add("meanwhile@x").await.expect(S::CREATED, "");
}
