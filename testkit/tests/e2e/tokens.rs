//! S7, S8, S10, F47: what a token opens, at once and exactly, for unmodified standard clients.

use std::time::Duration;

use ddm_testkit::{
    cluster::{Cluster, Plan},
    process::{eventually, tool},
};
use reqwest::{Method, StatusCode, header};
use serde_json::Value;

use crate::content::{MIB, bytes, file, sha256};

fn address(location: &Value) -> &str {
    location["url"].as_str().unwrap()
}

fn token(details: &Value) -> &str {
    details["download"]["token"].as_str().unwrap()
}

#[tokio::test]
async fn a_token_is_honoured_by_every_holder_at_once() -> anyhow::Result<()> {
    let cluster = Cluster::start(&Plan::zones(&["eu", "us", "us"])).await?;
    let id = cluster.publish(&file(&cluster, "x.bin", 1, 100)?, &["--quorum", "3"]).await?;
    for _ in 0..50 {
        let details = cluster.details(&id).await?;
        let locations = details["locations"].as_array().unwrap();
        assert_eq!(locations.len(), 3);
        for location in locations {
            let answer = cluster.http.get(address(location)).bearer_auth(token(&details)).send().await?;
            assert_eq!(answer.status(), StatusCode::OK, "{location}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn without_the_right_token_not_a_byte_leaves() -> anyhow::Result<()> {
    let lifetime = ddm_testkit::window(Duration::from_secs(2), Duration::from_secs(60));
    let args = vec!["--download-lifetime".to_owned(), format!("{}s", lifetime.as_secs())];
    let cluster = Cluster::start(&Plan { info_args: args, ..Plan::zones(&["eu", "eu"]) }).await?;
    let secret = bytes(7, 64);
    let path = file(&cluster, "secret.bin", 7, 64)?;
    let (id, other) = (cluster.publish(&path, &[]).await?, cluster.publish(&path, &[]).await?);
    let (details, foreign) = (cluster.details(&id).await?, cluster.details(&other).await?);
    let url = address(&details["locations"][0]).to_owned();
    let made_up = wire::token::Token::generate(wire::token::TokenKind::Download);
    for (case, bearer, status) in [
        ("none", None, StatusCode::UNAUTHORIZED),
        ("made up", Some(made_up.expose()), StatusCode::FORBIDDEN),
        ("not even a token", Some("x"), StatusCode::FORBIDDEN),
        ("of another file", Some(token(&foreign)), StatusCode::FORBIDDEN),
        ("a session", Some(cluster.token.as_str()), StatusCode::FORBIDDEN),
    ] {
        let request = cluster.http.get(&url);
        let request = if let Some(bearer) = bearer { request.bearer_auth(bearer) } else { request };
        let answer = request.send().await?;
        assert_eq!(answer.status(), status, "{case}");
        assert_eq!(answer.headers().contains_key(header::WWW_AUTHENTICATE), bearer.is_none(), "{case}");
        let body = answer.bytes().await?;
        assert!(!body.windows(8).any(|part| secret.windows(8).any(|own| own == part)), "{case}");
    }
    let in_query = cluster.http.get(format!("{url}?token={}", token(&details))).send().await?;
    assert_eq!(in_query.status(), StatusCode::UNAUTHORIZED);
    let live = cluster.details(&id).await?;
    assert_eq!(cluster.http.get(&url).bearer_auth(token(&live)).send().await?.status(), StatusCode::OK);
    let expired = async || {
        let answer = cluster.http.get(&url).bearer_auth(token(&live)).send().await?;
        Ok((answer.status() == StatusCode::FORBIDDEN).then_some(()))
    };
    eventually("the token has expired", lifetime + Duration::from_secs(4), expired).await?;
    Ok(())
}

#[tokio::test]
async fn a_token_for_one_zone_is_refused_in_others() -> anyhow::Result<()> {
    let cluster = Cluster::start(&Plan::zones(&["eu", "us"])).await?;
    let id = cluster.publish(&file(&cluster, "x.bin", 8, 64)?, &[]).await?;
    let body = serde_json::json!({ "zones": ["us"], "lifetime_s": 60 });
    let path = format!("/v1/files/{id}/tokens");
    let issued: Value = cluster.request(Method::POST, &path).json(&body).send().await?.json().await?;
    let details = cluster.get(&format!("/v1/files/{id}?grant=false&zone=us")).await?;
    for (n, status) in [(0, StatusCode::OK), (1, StatusCode::FORBIDDEN)] {
        let url = address(&details["locations"][n]);
        let answer = cluster.http.get(url).bearer_auth(issued["token"].as_str().unwrap()).send().await?;
        assert_eq!(answer.status(), status, "{}", details["locations"][n]["zone"]);
    }
    Ok(())
}

#[tokio::test]
async fn ranges_are_exact_for_curl_wget_and_raw_requests() -> anyhow::Result<()> {
    let cluster = Cluster::start(&Plan::zones(&["eu", "eu"])).await?;
    let path = file(&cluster, "r.bin", 9, 2 * MIB + 5)?;
    let (content, id) = (bytes(9, 2 * MIB + 5), cluster.publish(&path, &[]).await?);
    let details = cluster.details(&id).await?;
    let (url, auth) = (address(&details["locations"][0]), format!("Authorization: Bearer {}", token(&details)));
    for (range, part) in [
        ("0-0", &content[..1]),
        ("1048570-1048580", &content[1_048_570..1_048_581]),
        ("2097152-", &content[2_097_152..]),
        ("-5", &content[content.len() - 5..]),
        ("2097150-99999999", &content[2_097_150..]),
    ] {
        let curl = tool("curl").args(["-sS", "-f", "-r", range, "-H", &auth, url]).output().await?;
        assert!(curl.status.success(), "{range}: {}", String::from_utf8_lossy(&curl.stderr));
        assert!(curl.stdout == part, "{range}");
    }
    for bad in ["bytes=2097157-", "bytes=5-4", "bytes=x", "bytes=-0", "bytes=99999999999999999999-"] {
        let answer = cluster.http.get(url).bearer_auth(token(&details)).header("Range", bad).send().await?;
        assert_eq!(answer.status(), StatusCode::RANGE_NOT_SATISFIABLE, "{bad}");
        assert_eq!(answer.headers()["content-range"], "bytes */2097157", "{bad}");
    }
    let got = cluster.path("wget.bin");
    let wget = tool("wget").args(["-q", "--header", &auth, "-O"]).arg(&got).arg(url).status().await?;
    assert!(wget.success());
    assert_eq!(sha256(&got)?, sha256(&path)?);
    // wget -c asks for the rest with a range.
    std::fs::write(&got, &content[..MIB as usize])?;
    let wget = tool("wget").args(["-q", "-c", "--header", &auth, "-O"]).arg(&got).arg(url).status().await?;
    assert!(wget.success());
    assert_eq!(sha256(&got)?, sha256(&path)?);
    Ok(())
}

#[tokio::test]
async fn conditions_are_judged_in_the_order_of_the_rfc() -> anyhow::Result<()> {
    let cluster = Cluster::start(&Plan::zones(&["eu", "eu"])).await?;
    let id = cluster.publish(&file(&cluster, "c.bin", 10, 1000)?, &[]).await?;
    let details = cluster.details(&id).await?;
    let url = address(&details["locations"][0]);
    let (own, weak) = (format!("\"{id}\""), format!("W/\"{id}\""));
    for (headers, status) in [
        (vec![], 200),
        (vec![("If-Match", own.as_str())], 200),
        (vec![("If-Match", "*")], 200),
        (vec![("If-Match", "\"other\"")], 412),
        (vec![("If-Match", weak.as_str())], 412),
        (vec![("If-None-Match", own.as_str())], 304),
        (vec![("If-None-Match", weak.as_str())], 304),
        (vec![("If-None-Match", "*")], 304),
        (vec![("If-None-Match", "\"a\", \"b\"")], 200),
        (vec![("If-Match", "\"other\""), ("If-None-Match", own.as_str())], 412),
        (vec![("Range", "bytes=0-1"), ("If-Range", own.as_str())], 206),
        (vec![("Range", "bytes=0-1"), ("If-Range", weak.as_str())], 200),
        (vec![("Range", "bytes=0-1"), ("If-Range", "\"other\"")], 200),
        (vec![("Range", "bytes=0-1"), ("If-Range", "Fri, 20 Nov 2026 00:00:00 GMT")], 200),
        (vec![("Range", "bytes=5000-"), ("If-None-Match", own.as_str())], 304),
        (vec![("Range", "bytes=5000-"), ("If-Match", "\"other\"")], 412),
        (vec![("Range", "pages=1-2")], 200),
    ] {
        let request = cluster.http.get(url).bearer_auth(token(&details));
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let answer = request.send().await?;
        assert_eq!(answer.status().as_u16(), status, "{headers:?}");
        if status < 400 {
            assert_eq!(answer.headers()["etag"], own.as_str(), "{headers:?}");
        }
    }
    let head = cluster.http.head(url).bearer_auth(token(&details)).header("Range", "bytes=0-1").send().await?;
    assert_eq!((head.status().as_u16(), head.headers()["content-length"].to_str()?), (200, "1000"));
    Ok(())
}

#[tokio::test]
async fn shutting_an_account_ends_its_tokens_too() -> anyhow::Result<()> {
    let cluster = Cluster::start(&Plan::zones(&["eu", "eu"])).await?;
    let id = cluster.publish(&file(&cluster, "x.bin", 11, 100)?, &[]).await?;
    cluster.user(&["add", "gone@example.org"], Some(ddm_testkit::cluster::PASSWORD)).await?;
    let session = cluster.log_in("gone@example.org").await?;
    let path = format!("{}/v1/files/{id}", cluster.info_url());
    let details: Value = cluster.http.get(path).bearer_auth(session).send().await?.json().await?;
    let url = address(&details["locations"][0]);
    let status = async || anyhow::Ok(cluster.http.get(url).bearer_auth(token(&details)).send().await?.status());
    assert_eq!(status().await?, StatusCode::OK);
    // By another process on the same database.
    cluster.user(&["disable", "gone@example.org"], None).await?;
    eventually("the token is refused", Duration::from_secs(2), async || {
        Ok((status().await? == StatusCode::FORBIDDEN).then_some(()))
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn a_flood_of_zones_or_a_body_that_never_ends_is_refused() -> anyhow::Result<()> {
    let cluster = Cluster::start(&Plan::zones(&["eu", "eu"])).await?;
    let id = cluster.publish(&file(&cluster, "x.bin", 12, 100)?, &[]).await?;
    let zones: Vec<String> = (0..31_000).map(|n| format!("zone-{n}")).chain(["eu".to_owned()]).collect();
    let path = format!("/v1/files/{id}/tokens");
    let body = serde_json::json!({ "zones": zones[..40] });
    let answer = cluster.request(Method::POST, &path).json(&body).send().await?;
    assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY);
    // Refused before it is read; whether the answer or the end of the connection arrives first is not ours to say.
    let answer = cluster.request(Method::POST, &path).json(&serde_json::json!({ "zones": zones })).send().await;
    assert!(answer.is_err() || answer.is_ok_and(|answer| answer.status() == StatusCode::PAYLOAD_TOO_LARGE));

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let address = cluster.info.as_ref().unwrap().address();
    let mut socket = tokio::net::TcpStream::connect(address).await?;
    let head = "POST /v1/sessions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n{";
    socket.write_all(head.as_bytes()).await?;
    let mut answer = Vec::new();
    tokio::time::timeout(Duration::from_secs(25), socket.read_to_end(&mut answer)).await??;
    assert!(answer.starts_with(b"HTTP/1.1 408"), "{}", String::from_utf8_lossy(&answer));
    Ok(())
}
