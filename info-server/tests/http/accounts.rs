//! The routes of `src/http/accounts`.

use axum::http::{Method, StatusCode as S, header};
use serde_json::{Value, json};
use wire::SessionId;

use crate::harness::{Caller, InfoServer, PASSWORD};

fn login(email: &str, password: &str) -> Value {
    json!({ "email": email, "password": password })
}

#[tokio::test]
async fn a_log_in_with_the_right_password_opens_a_session_and_its_end_closes_it() {
    let info = InfoServer::start().await;
    let session = info.post(Caller::Stranger, "/v1/sessions", login("READER@x", PASSWORD)).await;
    let session = session.expect(S::CREATED, "");
    let token = session["token"].as_str();
    info.call_with(token, Method::GET, "/v1/files", None).await.expect(S::OK, "");
    info.call_with(token, Method::DELETE, "/v1/sessions/current", None).await.expect(S::NO_CONTENT, "");
    info.call_with(token, Method::GET, "/v1/files", None).await.expect(S::UNAUTHORIZED, "unauthorized");
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_account_get_the_same_answer_until_there_were_too_many() {
    let info = InfoServer::start().await;
    for (email, password) in [("reader@x", "a wrong password"), ("nobody@x", PASSWORD), ("reader@x", "short")] {
        let refused = info.post(Caller::Stranger, "/v1/sessions", login(email, password)).await;
        refused.expect(S::UNAUTHORIZED, "wrong-password");
        assert!(refused.headers.contains_key(header::WWW_AUTHENTICATE));
    }
    for _ in 0..8 {
        let wrong = info.post(Caller::Stranger, "/v1/sessions", login("reader@x", "short")).await;
        wrong.expect(S::UNAUTHORIZED, "wrong-password");
    }
    let throttled = info.post(Caller::Stranger, "/v1/sessions", login("reader@x", PASSWORD)).await;
    throttled.expect(S::TOO_MANY_REQUESTS, "throttled");
    assert!(throttled.headers.contains_key(header::RETRY_AFTER));
    let log = info.get(Caller::Admin, "/v1/audit?kind=login-failed").await.expect(S::OK, "");
    let counted: u64 = log["entries"].as_array().unwrap().iter().map(|entry| entry["count"].as_u64().unwrap()).sum();
    assert_eq!(counted, 11);
}

#[tokio::test]
async fn each_address_behind_a_proxy_is_one_of_its_own_with_a_port_or_not_and_the_audit_log_names_it() {
    let info = InfoServer::start_with(&["--trusted-proxies", "127.0.0.1,10.0.0.0/8"]).await;
    let log_in = async |hops: &str, email: &str, password: &str| {
        let headers = [("x-forwarded-for", hops), ("forwarded", "for=192.0.2.1")];
        info.post_from("127.0.0.1:9000", &headers, "/v1/sessions", login(email, password)).await
    };
    for n in 0..65 {
        let hops = format!("203.0.113.7:{}, 10.0.0.2:80", 5000 + n);
        log_in(&hops, &format!("x{n}@y.z"), "wrong").await;
    }
    let guesser = log_in("203.0.113.7", "x@y.z", "wrong").await;
    guesser.expect(S::TOO_MANY_REQUESTS, "throttled");
    log_in("198.51.100.9:4", "reader@x", PASSWORD).await.expect(S::CREATED, "");
    log_in("\"[2001:db8::1]:4\"", "publisher@x", PASSWORD).await.expect(S::CREATED, "");
    let log = info.get(Caller::Admin, "/v1/audit?kind=login").await.expect(S::OK, "");
    let from: Vec<_> = log["entries"].as_array().unwrap().iter().map(|entry| entry["address"].clone()).collect();
    assert_eq!(from, ["2001:db8::1", "198.51.100.9"]);
}

#[tokio::test]
async fn accounts_end_their_own_sessions_and_admins_those_of_all() {
    let info = InfoServer::start().await;
    let sessions = info.get(Caller::Reader, "/v1/sessions").await.expect(S::OK, "");
    let own = format!("/v1/sessions/{}", sessions["sessions"][0]["id"].as_str().unwrap());
    info.delete(Caller::OtherReader, &own).await.expect(S::NOT_FOUND, "not-found");
    info.delete(Caller::Admin, &own).await.expect(S::NO_CONTENT, "");
    info.get(Caller::Reader, "/v1/files").await.expect(S::UNAUTHORIZED, "unauthorized");
    info.delete(Caller::Admin, &format!("/v1/sessions/{}", SessionId::new())).await.expect(S::NOT_FOUND, "not-found");
    info.delete(Caller::Admin, "/v1/sessions").await.expect(S::NO_CONTENT, "");
    info.get(Caller::Admin, "/v1/files").await.expect(S::OK, "");
}

#[tokio::test]
async fn admins_alone_make_and_change_accounts_while_registration_is_closed() {
    let info = InfoServer::start().await;
    let new = |email: &str, password: &str| json!({ "email": email, "password": password });
    info.post(Caller::Stranger, "/v1/users", new("new@x", PASSWORD)).await.expect(S::UNAUTHORIZED, "unauthorized");
    info.post(Caller::Publisher, "/v1/users", new("new@x", PASSWORD)).await.expect(S::FORBIDDEN, "forbidden");
    for (email, password, status, problem) in [
        ("new", PASSWORD, S::UNPROCESSABLE_ENTITY, "invalid-value"),
        ("new@x", "short", S::UNPROCESSABLE_ENTITY, "invalid-value"),
        ("new@x", PASSWORD, S::CREATED, ""),
        ("NEW@x", PASSWORD, S::CONFLICT, "taken"),
    ] {
        info.post(Caller::Admin, "/v1/users", new(email, password)).await.expect(status, problem);
    }
    let change = |body| (Method::PATCH, Some(body));
    for (caller, user, (method, body), status, problem) in [
        (Caller::Reader, "new@x", change(json!({ "role": "admin" })), S::FORBIDDEN, "forbidden"),
        (Caller::Admin, "gone@x", change(json!({ "role": "reader" })), S::NOT_FOUND, "not-found"),
        (Caller::Admin, "admin@x", change(json!({ "disabled": true })), S::CONFLICT, "last-admin"),
        (Caller::Admin, "reader@x", change(json!({ "disabled": true })), S::NO_CONTENT, ""),
    ] {
        info.call(caller, method, &format!("/v1/users/{user}"), body).await.expect(status, problem);
    }
    info.get(Caller::Reader, "/v1/files").await.expect(S::UNAUTHORIZED, "unauthorized");
}

#[tokio::test]
async fn anyone_makes_a_readers_account_where_registration_is_open() {
    let info = InfoServer::start_with(&["--open-registration"]).await;
    let new = |role: &str| json!({ "email": "new@x", "password": PASSWORD, "role": role });
    info.post(Caller::Stranger, "/v1/users", new("publisher")).await.expect(S::UNAUTHORIZED, "unauthorized");
    info.post(Caller::Stranger, "/v1/users", new("reader")).await.expect(S::CREATED, "");
}

#[tokio::test]
async fn lists_of_accounts_and_of_the_audit_log_page_to_their_ends_for_admins_alone() {
    let info = InfoServer::start().await;
    for (path, most, rows) in [("/v1/users", 500, "users"), ("/v1/audit", 1000, "entries")] {
        info.get(Caller::Publisher, path).await.expect(S::FORBIDDEN, "forbidden");
        for wrong in [0, most + 1] {
            let answer = info.get(Caller::Admin, &format!("{path}?limit={wrong}")).await;
            answer.expect(S::UNPROCESSABLE_ENTITY, "invalid-value");
        }
        info.get(Caller::Admin, &format!("{path}?cursor=x")).await.expect(S::BAD_REQUEST, "bad-request");
        let all = info.get(Caller::Admin, &format!("{path}?limit={most}")).await.expect(S::OK, "");
        assert_eq!(all.get("next_cursor"), None);
        let all = all[rows].as_array().unwrap().clone();
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = info.get(Caller::Admin, &format!("{path}?limit=2{cursor}")).await.expect(S::OK, "");
            seen.extend(page[rows].as_array().unwrap().clone());
            let Some(next) = page["next_cursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        assert_eq!(seen, all, "{path}");
    }
}
