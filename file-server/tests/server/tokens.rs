//! Access to content by token.

use jiff::{SignedDuration, Timestamp};
use reqwest::StatusCode;
use wire::{
    FileId,
    event::{EventPayload, Stream},
    token::{Grant, GrantPurpose, Revocation, Token, TokenKind},
};

use crate::{
    info::{Info, grant_of},
    node::{Node, content, sample},
};

const MIB: usize = 1 << 20;

#[tokio::test]
async fn only_a_live_token_of_this_file_and_zone_gets_bytes() {
    let info = Info::start().await;
    let node = Node::start(&info).await;
    let file = node.upload(&info, &sample(1000)).await;
    let zone = |zone: &str| Some(vec![zone.parse().unwrap()]);
    let expired =
        info.token(|grant| Grant { file, expires_at: Timestamp::now() - SignedDuration::from_secs(1), ..grant });
    let rows = [
        ("this file", info.download(file), 200),
        ("this zone", info.token(|grant| Grant { file, zones: zone("eu"), ..grant }), 200),
        ("another zone", info.token(|grant| Grant { file, zones: zone("us"), ..grant }), 403),
        ("another file", info.download(FileId::new()), 403),
        ("expired", expired, 403),
        ("upload", info.upload(file, 1000, &node.id), 403),
        ("never issued", Token::generate(TokenKind::Download), 403),
        ("session", Token::generate(TokenKind::Session), 403),
        ("server", Token::generate(TokenKind::Server), 403),
    ];
    for (what, token, status) in rows {
        let answer = node.get(file, &token).send().await.unwrap();
        assert_eq!(answer.status(), status, "{what}");
        let body = answer.text().await.unwrap();
        assert!(status == 200 || (body.contains("forbidden") && !body.contains(&file.to_string())), "{what}: {body}");
    }
    for id in [file.to_string(), FileId::new().to_string(), "x".to_owned()] {
        let answer = node.client.get(format!("{}/v1/files/{id}/content", node.url)).send().await.unwrap();
        assert_eq!(
            (answer.status(), &answer.headers()["www-authenticate"]),
            (StatusCode::UNAUTHORIZED, &"Bearer".parse().unwrap())
        );
    }
    let query = format!("{}?token={}", content(&node.url, file), info.download(file).expose());
    assert_eq!(node.client.get(query).send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
    node.stop().await;
}

#[tokio::test]
async fn every_file_route_requires_its_own_kind_of_token() {
    let info = Info::start().await;
    let node = Node::start(&info).await;
    let file = node.upload(&info, &sample(10)).await;
    let (down, up) = (info.download(file), info.upload(file, 10, &node.id));
    let elsewhere = info.upload(file, 10, &"fs-other".parse().unwrap());
    for (method, path, allowed) in [
        ("GET", "content", [true, false, false]),
        ("HEAD", "content", [true, false, false]),
        ("GET", "chunks", [true, true, false]),
        ("PUT", "chunks/0", [false, true, false]),
    ] {
        for (token, allowed) in [&down, &up, &elsewhere].into_iter().zip(allowed) {
            let url = format!("{}/v1/files/{file}/{path}", node.url);
            let request = node.client.request(method.parse().unwrap(), url).bearer_auth(token.expose());
            let status = request.send().await.unwrap().status();
            assert_eq!(status != StatusCode::FORBIDDEN, allowed, "{method} {path} {token:?}: {status}");
        }
    }
    node.stop().await;
}

#[tokio::test]
async fn an_unknown_token_is_asked_about_once_and_a_malformed_one_never() {
    let info = Info::start().await;
    let node = Node::start(&info).await;
    let file = node.upload(&info, &sample(10)).await;
    let before = info.received().introspections.len();
    let token = info.download(file);
    let asked = (0..20).map(|_| node.get(file, &token).send());
    for answer in futures::future::join_all(asked).await {
        assert_eq!(answer.unwrap().status(), StatusCode::OK);
    }
    assert_eq!(info.received().introspections.len(), before + 1);
    let mut broken = token.expose().to_owned();
    broken.replace_range(10..11, if &broken[10..11] == "A" { "B" } else { "A" });
    let answer = node.client.get(content(&node.url, file)).bearer_auth(broken).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    assert_eq!(info.received().introspections.len(), before + 1);
    node.stop().await;
}

#[tokio::test]
async fn with_the_info_server_away_known_tokens_work_across_a_restart_and_unknown_ones_may_come_back() {
    let info = Info::start().await;
    let node = Node::start(&info).await;
    let file = node.upload(&info, &sample(10)).await;
    let known = info.download(file);
    assert_eq!(node.get(file, &known).send().await.unwrap().status(), StatusCode::OK);
    info.stop();
    let node = Node::start_on(&info.url, node.stop().await).await;
    assert_eq!(node.get(file, &known).send().await.unwrap().status(), StatusCode::OK);
    let unknown = info.download(file);
    let answer = node.get(file, &unknown).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer.headers().contains_key("retry-after"));
    node.stop().await;
}

#[tokio::test]
async fn a_granted_token_works_without_a_question_and_a_revocation_cuts_its_running_body() {
    let info = Info::start().await;
    let node = Node::start(&info).await;
    let file = node.upload(&info, &sample(24 * MIB)).await;
    let asked = info.received().introspections.len();
    let (token, grant) = grant_of(TokenKind::Download, GrantPurpose::Download, file, |grant| grant);
    info.received().grants.insert(token.hash(), grant.clone());
    info.publish(Stream::Zone("eu".parse().unwrap()), EventPayload::TokenGranted { grants: vec![grant] });
    // An event of another kind, published later, shows when the grant has been applied.
    let other = node.upload(&info, &sample(10)).await;
    info.publish(Stream::All, EventPayload::FileDeleted { file: other });
    info.wait_until(|received| received.reports.get(&other).is_some_and(|report| report.runs.is_empty())).await;
    let after = info.received().introspections.len();

    let mut answer = node.get(file, &token).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(info.received().introspections.len(), after, "{asked}");
    let mut seen = answer.chunk().await.unwrap().unwrap().len();
    info.revoke(&token);
    let wait = async {
        while node.get(file, &token).send().await.unwrap().status() == StatusCode::OK {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), wait).await.expect("revoked");
    let end = loop {
        match answer.chunk().await {
            Ok(Some(more)) => seen += more.len(),
            end => break end,
        }
    };
    assert!(end.is_err() && seen < 24 * MIB, "cut after {seen} bytes");
    let counted = async {
        // The other answers that were cut are those whose bodies were not read.
        while node.metrics().await.contains("ddm_file_server_bodies_cut_total 0") {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), counted).await.expect("the cut is counted");
    node.stop().await;
}

#[tokio::test]
async fn a_revocation_wins_over_a_grant_that_arrives_after_it() {
    let info = Info::start().await;
    let node = Node::start(&info).await;
    let file = node.upload(&info, &sample(10)).await;
    let (token, grant) = grant_of(TokenKind::Download, GrantPurpose::Download, file, |grant| grant);
    // The info-server still answers with the grant: the tombstone must win over that, too.
    info.received().grants.insert(token.hash(), grant.clone());
    let revocation = Revocation { token_hash: token.hash(), token_id: grant.token_id, expires_at: grant.expires_at };
    info.publish(Stream::All, EventPayload::TokenRevoked { tokens: vec![revocation] });
    let other = node.upload(&info, &sample(10)).await;
    info.publish(Stream::All, EventPayload::FileDeleted { file: other });
    info.wait_until(|received| received.reports.get(&other).is_some_and(|report| report.runs.is_empty())).await;
    assert_eq!(node.get(file, &token).send().await.unwrap().status(), StatusCode::FORBIDDEN);
    let data = node.stop().await;
    info.stop();
    let node = Node::start_on(&info.url, data).await;
    assert_eq!(node.get(file, &token).send().await.unwrap().status(), StatusCode::FORBIDDEN, "after a restart");
    node.stop().await;
}
