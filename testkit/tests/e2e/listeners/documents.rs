//! F52: bodies that are not what they should be.

use reqwest::{Method, StatusCode};
use serde_json::Value;

use super::pair;
use crate::content::file;

#[tokio::test]
async fn only_one_json_object_with_each_key_once_is_taken() -> anyhow::Result<()> {
    let cluster = pair(&[]).await?;
    let id = cluster.publish(&file(&cluster, "x.bin", 1, 100)?, &["--quorum", "1"]).await?;
    let tokens = format!("/v1/files/{id}/tokens");
    let commit = format!("/v1/files/{id}/commit");
    let deep = format!("{{\"zones\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000));
    let json = "application/json";
    for route in [tokens.as_str(), "/v1/sessions", "/v1/users", "/v1/files", &commit] {
        for (case, kind, body) in [
            ("an array", json, "[]"),
            ("an array of fields", json, "[60,[\"eu\"]]"),
            ("null", json, "null"),
            ("a text", json, "\"x\""),
            ("a number", json, "7"),
            ("a key twice", json, "{\"lifetime_s\":1,\"lifetime_s\":2}"),
            ("an unknown key twice", json, "{\"x\":1,\"x\":2}"),
            ("bytes behind", json, "{} {}"),
            ("half an object", json, "{\"lifetime_s\":"),
            ("deep arrays", json, &deep),
            ("another type", "text/plain", "{}"),
            ("a form", "application/x-www-form-urlencoded", "lifetime_s=1"),
            ("not UTF-8", json, "{\"x\":\"\u{0}\"}"),
        ] {
            let request = cluster.request(Method::POST, route).header("content-type", kind).body(body.to_owned());
            let answer = request.send().await?;
            let status = answer.status();
            assert!(status.is_client_error(), "{route}, {case}: {status}");
            let problem: Value = answer.json().await?;
            assert_eq!(problem["status"], status.as_u16(), "{route}, {case}: {problem}");
            assert!(problem["title"].as_str().is_some_and(|title| !title.is_empty()), "{route}, {case}: {problem}");
        }
    }
    let good = cluster.request(Method::POST, &tokens).header("content-type", json).body("{\"lifetime_s\":60}");
    assert_eq!(good.send().await?.status(), StatusCode::CREATED);
    assert_eq!(cluster.request(Method::POST, &tokens).send().await?.status(), StatusCode::CREATED, "without a body");
    Ok(())
}
