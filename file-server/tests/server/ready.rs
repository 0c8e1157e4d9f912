//! Responses that bypass the router are those of the route, byte for byte.

use reqwest::StatusCode;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use wire::{
    TraceId,
    event::{EventPayload, Stream},
    token::Token,
};

use crate::{
    info::Info,
    node::{Node, content, sample, until},
};

const MIB: usize = 1 << 20;

/// Sends a request on a connection of its own, and returns the response without its date.
async fn answer(node: &Node, head: &str, trace: TraceId) -> String {
    let address = node.url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let traceparent = trace.header();
    // The server ends a connection by itself if the request has a body that does not arrive.
    let close = if head.contains("content-length: 5") { "" } else { "connection: close\r\n" };
    let head = format!("{head}host: {address}\r\ntraceparent: {traceparent}\r\n{close}\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    text.split("\r\n").filter(|line| !line.starts_with("date: ")).collect::<Vec<_>>().join("\r\n")
}

/// Returns the number of responses that bypassed the router.
async fn ready_responses(node: &Node) -> u64 {
    let text = node.metrics().await;
    let line = text.lines().find_map(|line| line.strip_prefix("ddm_file_server_content_requests_ready_total "));
    line.unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_response_that_bypasses_the_router_is_that_of_the_route() {
    let info = Info::start().await;
    let node = Node::start(&info).await;
    let bytes = sample(2 * MIB + 5);
    let file = node.upload(&info, &bytes).await;
    let has_digest = async || {
        let answer = node.get(file, &info.download(file)).send().await.unwrap();
        answer.headers().contains_key("repr-digest")
    };
    until(has_digest).await;
    let token = info.download(file);
    let authorization = format!("authorization: Bearer {}\r\n", token.expose());
    let other = info.download(wire::FileId::new());
    let foreign = format!("authorization: Bearer {}\r\n", other.expose());
    let rows = [
        // The number of responses that bypass the router, and the request.
        (1, "GET", "", "".to_owned(), &authorization),
        (1, "GET", "?a=b", "".to_owned(), &authorization),
        (1, "HEAD", "", "range: bytes=0-1\r\n".to_owned(), &authorization),
        (1, "GET", "", "range: bytes=0-0\r\n".to_owned(), &authorization),
        (1, "GET", "", "range: bytes=1048570-1048580\r\n".to_owned(), &authorization),
        (1, "GET", "", "range: bytes=-7\r\n".to_owned(), &authorization),
        (1, "GET", "", "range: lines=1-2\r\n".to_owned(), &authorization),
        (1, "GET", "", "range: bytes=0-9\r\norigin: http://page.example\r\n".to_owned(), &authorization),
        (1, "GET", "", format!("if-range: \"{file}\"\r\nrange: bytes=3-5\r\n"), &authorization),
        (1, "GET", "", format!("if-match: \"x\"\r\nif-match: \"{file}\"\r\nrange: bytes=3-5\r\n"), &authorization),
        // A body that does not arrive: the connection ends after the response.
        (1, "GET", "", "content-length: 5\r\nrange: bytes=0-1\r\n".to_owned(), &authorization),
        (0, "GET", "", format!("if-none-match: \"{file}\"\r\n"), &authorization),
        (0, "GET", "", "if-match: \"x\"\r\n".to_owned(), &authorization),
        (0, "GET", "", "range: bytes=99999999-\r\n".to_owned(), &authorization),
        (0, "GET", "", "range: bytes=0-1\r\n".to_owned(), &foreign),
        (0, "GET", "", "range: bytes=0-1\r\n".to_owned(), &String::new()),
        (0, "POST", "", "content-length: 0\r\n".to_owned(), &authorization),
        (
            0,
            "OPTIONS",
            "",
            "origin: http://page.example\r\naccess-control-request-method: GET\r\n".to_owned(),
            &authorization,
        ),
        (0, "GET", "/", "".to_owned(), &authorization),
    ];
    for token in [&token, &other] {
        // From now on its grant is in memory.
        assert!(node.get(file, token).send().await.is_ok());
    }
    for (ready, method, suffix, fields, authorization) in rows {
        let head = format!("{method} /v1/files/{file}/content{suffix} HTTP/1.1\r\n{authorization}{fields}");
        let trace = TraceId::new();
        let before = ready_responses(&node).await;
        // The first request of a trace is left to the router, which logs it.
        let routed = answer(&node, &head, trace).await;
        assert_eq!(ready_responses(&node).await, before, "{head}");
        assert_eq!(answer(&node, &head, trace).await, routed, "{head}");
        assert_eq!(ready_responses(&node).await, before + ready, "{head}{routed:.200}");
    }
    node.stop().await;
}

#[tokio::test]
async fn several_ranges_bypass_the_router_too() {
    let info = Info::start().await;
    let node = Node::start(&info).await;
    let file = node.upload(&info, &sample(100)).await;
    let token = info.download(file);
    node.content(&info, file).await;
    for ready in [0, 1] {
        let before = ready_responses(&node).await;
        let answer = node.get(file, &token).header("range", "bytes=0-1,5-7").send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::PARTIAL_CONTENT);
        assert!(answer.headers()["content-type"].to_str().unwrap().starts_with("multipart/byteranges; boundary="));
        assert_eq!(answer.headers()["access-control-allow-origin"], "*");
        answer.bytes().await.unwrap();
        assert_eq!(ready_responses(&node).await, before + ready, "the token is in memory after its first request");
    }
    node.stop().await;
}

/// Returns the status of a second request, after the first one was answered with content.
async fn status(node: &Node, file: wire::FileId, token: &Token) -> StatusCode {
    node.client.get(content(&node.url, file)).bearer_auth(token.expose()).send().await.unwrap().status()
}

#[tokio::test]
async fn what_ends_access_ends_it_for_responses_that_bypass_the_router() {
    let info = Info::start().await;
    let node = Node::start(&info).await;
    let (kept, deleted) = (node.upload(&info, &sample(100)).await, node.upload(&info, &sample(100)).await);
    let [revoked, valid] = [kept, kept].map(|file| info.download(file));
    let of_deleted = info.download(deleted);
    for (file, token) in [(kept, &revoked), (kept, &valid), (deleted, &of_deleted)] {
        let before = ready_responses(&node).await;
        assert_eq!(status(&node, file, token).await, StatusCode::OK);
        assert_eq!(status(&node, file, token).await, StatusCode::OK);
        assert_eq!(ready_responses(&node).await, before + 1);
    }
    info.revoke(&revoked);
    until(async || status(&node, kept, &revoked).await == StatusCode::FORBIDDEN).await;
    info.publish(Stream::All, EventPayload::FileDeleted { file: deleted });
    until(async || status(&node, deleted, &of_deleted).await == StatusCode::NOT_FOUND).await;
    // A blob whose file has lost its name, or its length, is not in place.
    let before = ready_responses(&node).await;
    std::fs::OpenOptions::new().write(true).open(node.place(kept)).unwrap().set_len(99).unwrap();
    assert_eq!(status(&node, kept, &valid).await, StatusCode::NOT_FOUND);
    assert_eq!(ready_responses(&node).await, before);
    node.stop().await;
}
