//! Responses to requests for content.

use std::process::Command;

use reqwest::{Method, StatusCode};
use wire::{Digest, FileId};

use crate::{
    info::Info,
    node::{Node, content, sample},
};

const MIB: usize = 1 << 20;

#[tokio::test]
async fn files_of_every_awkward_size_come_back_whole_and_in_ranges() {
    let info = Info::start().await;
    let node = Node::start(&info).await;
    for len in [0, 1, MIB - 1, MIB, MIB + 1, 3 * MIB + 17] {
        let bytes = sample(len);
        let file = node.upload(&info, &bytes).await;
        let token = info.download(file);
        let whole = node.get(file, &token).send().await.unwrap();
        assert_eq!(whole.status(), StatusCode::OK);
        assert_eq!(whole.headers()["etag"], format!("\"{file}\""));
        assert_eq!(whole.headers()["accept-ranges"], "bytes");
        assert_eq!(whole.content_length(), Some(len as u64));
        assert!(whole.headers().get("content-encoding").is_none());
        assert_eq!(Digest::of(&whole.bytes().await.unwrap()), Digest::of(&bytes), "{len}");
        for (first, last) in [(0, 0), (0, len), (len / 2, len), (len.saturating_sub(1), len)] {
            let range = format!("bytes={first}-{last}");
            let answer = node.get(file, &token).header("range", &range).send().await.unwrap();
            if len == 0 {
                assert_eq!(answer.status(), StatusCode::RANGE_NOT_SATISFIABLE);
                assert_eq!(answer.headers()["content-range"], "bytes */0");
                continue;
            }
            let end = len.min(last + 1);
            assert_eq!(answer.status(), StatusCode::PARTIAL_CONTENT, "{range} of {len}");
            assert_eq!(answer.headers()["content-range"], format!("bytes {first}-{}/{len}", end - 1));
            assert_eq!(answer.bytes().await.unwrap(), &bytes[first..end], "{range} of {len}");
        }
    }
    node.stop().await;
}

#[tokio::test]
async fn curl_gets_exactly_the_range_it_asks_for() {
    let info = Info::start().await;
    let node = Node::start(&info).await;
    let bytes = sample(2 * MIB + 5);
    let file = node.upload(&info, &bytes).await;
    let token = info.download(file);
    for (range, expected) in
        [("0-0", &bytes[..1]), ("1048570-1048580", &bytes[1_048_570..=1_048_580]), ("-7", &bytes[bytes.len() - 7..])]
    {
        let (url, header) = (content(&node.url, file), format!("Authorization: Bearer {}", token.expose()));
        let curl = tokio::task::spawn_blocking(move || {
            Command::new("curl").args(["-sf", "--noproxy", "*", "-r", range, "-H", &header, &url]).output().unwrap()
        });
        let output = curl.await.unwrap();
        assert!(output.status.success());
        assert_eq!(output.stdout, expected, "{range}");
    }
    node.stop().await;
}

#[tokio::test]
async fn several_ranges_come_as_one_multipart_body_of_the_announced_length() {
    let info = Info::start().await;
    let node = Node::start(&info).await;
    let bytes = sample(MIB + 100);
    let file = node.upload(&info, &bytes).await;
    let token = info.download(file);
    let answer = node.get(file, &token).header("range", "bytes=5-9,1048570-1048580,-3").send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::PARTIAL_CONTENT);
    let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
    let boundary = kind.strip_prefix("multipart/byteranges; boundary=").unwrap().to_owned();
    assert!(answer.headers().get("content-range").is_none());
    let announced = answer.content_length().unwrap();
    let body = answer.bytes().await.unwrap();
    assert_eq!(body.len() as u64, announced);
    let len = bytes.len();
    let mut expected = Vec::new();
    for (first, end) in [(5, 10), (1_048_570, 1_048_581), (len - 3, len)] {
        let head = format!(
            "\r\n--{boundary}\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes {first}-{}/{len}\r\n\r\n",
            end - 1
        );
        expected.extend(head.into_bytes());
        expected.extend(&bytes[first..end]);
    }
    expected.extend(format!("\r\n--{boundary}--\r\n").into_bytes());
    assert_eq!(body, expected);
    node.stop().await;
}

#[tokio::test]
async fn hostile_ranges_are_refused_in_little_space() {
    let info = Info::start().await;
    let node = Node::start(&info).await;
    let file = node.upload(&info, &sample(MIB)).await;
    let token = info.download(file);
    let overlapping = format!("bytes={}", (0..1300).map(|n| format!("0-{n}")).collect::<Vec<_>>().join(","));
    let doubled = format!("bytes={}", "0-,".repeat(2));
    for range in [&overlapping, &doubled, "bytes=18446744073709551616-", "bytes=5-4", "bytes=a-b"] {
        let answer = node.get(file, &token).header("range", range).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::RANGE_NOT_SATISFIABLE, "{:.40}", range);
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
        assert!(answer.bytes().await.unwrap().len() < 1000);
    }
    // A head of a megabyte is refused, or the connection ends; the server lives on.
    let huge = node.get(file, &token).header("range", "x".repeat(1 << 20)).send().await;
    assert!(huge.is_err() || huge.is_ok_and(|answer| answer.status().is_client_error()));
    assert_eq!(node.get(file, &token).send().await.unwrap().status(), StatusCode::OK);
    node.stop().await;
}

#[tokio::test]
async fn conditions_are_honoured_and_head_is_get_without_a_body() {
    let info = Info::start().await;
    let node = Node::start(&info).await;
    let bytes = sample(MIB);
    let file = node.upload(&info, &bytes).await;
    let token = info.download(file);
    let tag = format!("\"{file}\"");
    for (name, value, range, status) in [
        ("if-none-match", tag.as_str(), None, 304),
        ("if-none-match", "\"x\"", None, 200),
        ("if-match", "\"x\"", None, 412),
        ("if-match", tag.as_str(), Some("bytes=0-1"), 206),
        ("if-range", tag.as_str(), Some("bytes=0-1"), 206),
        ("if-range", "Sat, 29 Oct 1994 19:43:31 GMT", Some("bytes=0-1"), 200),
        ("if-modified-since", "Sat, 29 Oct 2094 19:43:31 GMT", None, 200),
    ] {
        let mut request = node.get(file, &token).header(name, value);
        if let Some(range) = range {
            request = request.header("range", range);
        }
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), status, "{name}: {value}");
        assert_eq!(answer.headers().get("etag").is_some_and(|found| *found == tag), status != 412);
    }
    let head = node.client.head(content(&node.url, file)).bearer_auth(token.expose());
    let head = head.header("range", "bytes=0-1").send().await.unwrap();
    assert_eq!(head.status(), StatusCode::OK);
    assert_eq!(head.headers()["content-length"], bytes.len().to_string());
    assert!(head.bytes().await.unwrap().is_empty());
    node.stop().await;
}

#[tokio::test]
async fn pages_of_other_origins_may_read_with_a_token_and_preflight_without_one() {
    let info = Info::start().await;
    let node = Node::start(&info).await;
    let file = node.upload(&info, &sample(10)).await;
    let preflight = node
        .client
        .request(Method::OPTIONS, content(&node.url, file))
        .header("origin", "http://page.example")
        .header("access-control-request-method", "GET")
        .header("access-control-request-headers", "authorization,range")
        .send()
        .await
        .unwrap();
    assert!(preflight.status().is_success());
    let allowed = preflight.headers()["access-control-allow-headers"].to_str().unwrap().to_owned();
    assert!(allowed.contains("authorization") && allowed.contains("range"), "{allowed}");
    let token = info.download(file);
    let answer = node.get(file, &token).header("origin", "http://page.example").send().await.unwrap();
    assert_eq!(answer.headers()["access-control-allow-origin"], "*");
    let exposed = answer.headers()["access-control-expose-headers"].to_str().unwrap().to_owned();
    for name in ["content-range", "etag", "accept-ranges", "repr-digest"] {
        assert!(exposed.contains(name), "{name} in {exposed}");
    }
    node.stop().await;
}

#[tokio::test]
async fn missing_bytes_are_answered_not_held_to_the_holder_of_a_token() {
    let info = Info::start().await;
    let node = Node::start(&info).await;
    let absent = FileId::new();
    let token = info.download(absent);
    let answer = node.get(absent, &token).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::NOT_FOUND);
    assert!(answer.text().await.unwrap().contains("not-held"));

    let bytes = sample(3 * MIB);
    let (file, size) = (FileId::new(), 3 * MIB as u64);
    let (up, down) = (info.upload(file, size, &node.id), info.download(file));
    assert_eq!(node.put(file, 1, &up, &bytes[MIB..2 * MIB]).await.status(), StatusCode::CREATED);
    let part = node.get(file, &down).header("range", "bytes=1048576-2097151").send().await.unwrap();
    assert_eq!(part.status(), StatusCode::PARTIAL_CONTENT, "verified chunks are served while the rest arrives");
    assert_eq!(part.bytes().await.unwrap(), &bytes[MIB..2 * MIB]);
    for range in [None, Some("bytes=0-0"), Some("bytes=1048576-2097152")] {
        let mut request = node.get(file, &down);
        if let Some(range) = range {
            request = request.header("range", range);
        }
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{range:?}");
        let problem: serde_json::Value = answer.json().await.unwrap();
        assert_eq!(problem["runs"], serde_json::json!([[1, 2]]));
    }
    node.stop().await;
}

#[tokio::test]
async fn the_files_digest_is_sent_once_it_was_computed_from_disk() {
    let info = Info::start().await;
    let node = Node::start(&info).await;
    let bytes = sample(2 * MIB + 1);
    let file = node.upload(&info, &bytes).await;
    let token = info.download(file);
    let digest = Digest::of(&bytes).to_field();
    let wait = async {
        loop {
            let answer = node.client.head(content(&node.url, file)).bearer_auth(token.expose()).send().await.unwrap();
            if let Some(found) = answer.headers().get("repr-digest") {
                assert_eq!(found, digest.as_str());
                break;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), wait).await.expect("read back in time");
    node.stop().await;
}

#[tokio::test]
async fn a_file_that_shrank_on_disk_ends_the_connection_and_never_a_whole_answer() {
    let info = Info::start().await;
    let node = Node::start(&info).await;
    let file = node.upload(&info, &sample(32 * MIB)).await;
    let token = info.download(file);
    let mut begun = node.get(file, &token).send().await.unwrap();
    assert!(begun.chunk().await.unwrap().is_some());
    std::fs::OpenOptions::new().write(true).open(node.place(file)).unwrap().set_len(100_000).unwrap();
    // More than the connection's buffers hold was promised and is not there.
    assert!(begun.bytes().await.is_err());
    assert_eq!(node.get(file, &token).send().await.unwrap().status(), StatusCode::NOT_FOUND);
    node.stop().await;
}
