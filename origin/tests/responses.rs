//! Responses and redirects that curl and wget take are taken here, too, with the same bytes.
#![expect(clippy::unwrap_used, reason = "a test that fails says where")]

mod tls_origin;

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ddm_origin::{Credentials, Netrc, OriginConfig, OriginError, Origins};
use testkit::nginx;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpListener,
    process::Command,
};
use tokio_rustls::TlsAcceptor;
use wire::{OriginUrl, job::JobReason};

use tls_origin::acceptor;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

/// Responses of a scripted origin, in bytes.
#[derive(Clone)]
struct Responses {
    first: Vec<u8>,
    other: Vec<u8>,
}

/// An origin that sends its first answer for `/first.bin` and its second one for every other path.
struct Scripted {
    address: SocketAddr,
    /// Heads of the requests that came.
    heads: Arc<Mutex<Vec<String>>>,
}

impl Scripted {
    async fn start(first: Vec<u8>, other: Vec<u8>, tls: Option<TlsAcceptor>) -> Self {
        let responses = Responses { first, other };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let (address, heads) = (listener.local_addr().unwrap(), Arc::default());
        let seen = Arc::clone(&heads);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (answers, tls, seen) = (responses.clone(), tls.clone(), Arc::clone(&seen));
                tokio::spawn(async move {
                    match tls {
                        Some(tls) => answer(tls.accept(stream).await.unwrap(), answers, &seen).await,
                        None => answer(stream, answers, &seen).await,
                    }
                });
            }
        });
        Self { address, heads }
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, responses: Responses, seen: &Mutex<Vec<String>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap_or(b'\n'));
    }
    let head = String::from_utf8(head).unwrap();
    let answer = if head.starts_with("GET /first.bin ") { responses.first } else { responses.other };
    seen.lock().unwrap().push(head);
    let _ = stream.write_all(&answer).await;
    let _ = stream.shutdown().await;
}

async fn fetch(origins: &Origins, url: &OriginUrl) -> Result<Vec<u8>, OriginError> {
    let mut whole = origins.whole(url, None).await?;
    let mut all = Vec::new();
    while let Some(bytes) = whole.body.next().await? {
        all.extend_from_slice(&bytes);
    }
    Ok(all)
}

async fn curl(url: &OriginUrl) -> Vec<u8> {
    Command::new("curl").args(["-sSfL", "--noproxy", "*", url.url().as_str()]).output().await.unwrap().stdout
}

#[tokio::test]
async fn odd_responses_bring_the_bytes_that_curl_gets() {
    let origins = Origins::for_user(&OriginConfig::default(), Credentials::default()).unwrap();
    for (what, first) in [
        ("raw bytes in a target", &b"HTTP/1.1 302 Found\r\nLocation: /caf\xe9.bin\r\nContent-Length: 0\r\n\r\n"[..]),
        ("raw UTF-8 in a target", b"HTTP/1.1 302 Found\r\nLocation: /caf\xc3\xa9.bin\r\nContent-Length: 0\r\n\r\n"),
        (
            "choices with a preferred one",
            b"HTTP/1.1 300 Multiple Choices\r\nLocation: /b\r\nContent-Length: 2\r\n\r\nno",
        ),
        ("206 with all bytes", b"HTTP/1.1 206 P\r\nContent-Range: bytes 0-4/5\r\nContent-Length: 5\r\n\r\nhello"),
        ("203", b"HTTP/1.1 203 N\r\nContent-Length: 5\r\n\r\nhello"),
        ("201", b"HTTP/1.1 201 Created\r\nContent-Length: 5\r\n\r\nhello"),
        (
            "chunks and a shorter length",
            b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        ),
        (
            "chunks and a longer length",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 9\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        ),
        ("a carriage return in a value", b"HTTP/1.1 200 OK\r\nX-Odd: a\rb\r\nContent-Length: 5\r\n\r\nhello"),
    ] {
        let server = Scripted::start(first.to_vec(), OK.to_vec(), None).await;
        let url = format!("http://{}/first.bin", server.address).parse().unwrap();
        let bytes = fetch(&origins, &url).await.map_err(|error| error.to_string());
        assert_eq!(bytes.as_deref(), Ok(&b"hello"[..]), "{what}");
        // The digits of an encoded byte may be of either case.
        let line = |heads: Vec<String>| heads.last().unwrap().lines().next().unwrap().to_ascii_lowercase();
        let asked = line(server.heads());
        assert_eq!(curl(&url).await, b"hello", "{what}: curl");
        assert_eq!(asked, line(server.heads()), "{what}: the request of curl");
    }
    for (what, first) in [
        (
            "206 with fewer bytes",
            &b"HTTP/1.1 206 P\r\nContent-Range: bytes 0-4/6\r\nContent-Length: 5\r\n\r\nhello"[..],
        ),
        ("choices alone", b"HTTP/1.1 300 Multiple Choices\r\nContent-Length: 2\r\n\r\nno"),
        (
            "chunks that end early",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n5\r\nhel",
        ),
    ] {
        let server = Scripted::start(first.to_vec(), OK.to_vec(), None).await;
        let url = format!("http://{}/first.bin", server.address).parse().unwrap();
        assert!(fetch(&origins, &url).await.is_err(), "{what}");
    }
}

#[tokio::test]
async fn a_log_in_in_a_redirect_goes_to_its_server_and_no_other() {
    let target = Scripted::start(OK.to_vec(), OK.to_vec(), None).await;
    let to =
        format!("HTTP/1.1 302 Found\r\nLocation: http://us:p%40ss@{}/b\r\nContent-Length: 0\r\n\r\n", target.address);
    let first = Scripted::start(to.into_bytes(), OK.to_vec(), None).await;
    let url = format!("http://{}/first.bin", first.address).parse().unwrap();
    let mut credentials = Credentials::default();
    credentials.set_netrc(Netrc::parse("default login other password secret"));
    let origins = Origins::for_user(&OriginConfig::default(), credentials).unwrap();
    assert_eq!(fetch(&origins, &url).await.unwrap(), b"hello");
    let has = |server: &Scripted, text: &str| server.heads().concat().contains(text);
    // wget sends it, too; curl only if the target is the same server.
    assert!(has(&target, "Basic dXM6cEBzcw==\r\n"), "{:?}", target.heads());
    assert!(!has(&first, "dXM6cEBzcw==") && !has(&target, &STANDARD.encode("other:secret")), "{:?}", first.heads());
}

#[tokio::test]
async fn a_redirect_leaves_tls_only_for_a_known_digest_and_without_credentials() {
    let folder = tempfile::tempdir().unwrap();
    nginx::self_signed(folder.path()).await.unwrap();
    let target = Scripted::start(OK.to_vec(), OK.to_vec(), None).await;
    let to = format!("HTTP/1.1 302 Found\r\nLocation: http://u:p@{}/b\r\nContent-Length: 0\r\n\r\n", target.address);
    let first = Scripted::start(to.into_bytes(), OK.to_vec(), Some(acceptor(folder.path()))).await;
    let url = format!("https://localhost:{}/first.bin", first.address.port()).parse().unwrap();
    let mut credentials = Credentials::default();
    credentials.add_header("Cookie: c=1").unwrap();
    credentials.set_netrc(Netrc::parse("default login other password secret"));
    let config = OriginConfig { origin_ca: Some(folder.path().join("leaf.pem")), ..OriginConfig::default() };
    let origins = Origins::for_user(&config, credentials).unwrap();
    let refused = fetch(&origins, &url).await.unwrap_err();
    assert_eq!(refused.reason, JobReason::NotSecure, "{refused}");
    assert!(refused.detail.contains("--sha256") && target.heads().is_empty(), "{refused}");
    assert_eq!(fetch(&origins.with_known_digest(), &url).await.unwrap(), b"hello");
    let head = target.heads().remove(0).to_ascii_lowercase();
    assert!(!head.contains("authorization") && !head.contains("cookie"), "{head}");
    assert!(first.heads().iter().all(|head| head.to_ascii_lowercase().contains("cookie: c=1")));
}
