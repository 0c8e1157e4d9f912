//! Origins as the web has them: what other programs read is read here, too.
#![expect(clippy::unwrap_used, reason = "a test that fails says where")]

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use ddm_origin::{
    AddressPolicy, Credentials, Limits, Obstacle, OriginConfig, OriginError, Origins, Resolver, SystemResolver,
    WholeBody,
};
use futures::future::BoxFuture;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use wire::job::{JobReason, Validator};

/// Starts an origin that sends `answer` on every connection, and counts the connections.
async fn raw(answer: impl Into<Vec<u8>>) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, seen, answer) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)), answer.into());
    let count = seen.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::Relaxed);
            let answer = answer.clone();
            tokio::spawn(async move {
                let mut head = [0; 4096];
                let _ = stream.read(&mut head).await;
                let _ = stream.write_all(&answer).await;
                let _ = stream.shutdown().await;
            });
        }
    });
    (address, seen)
}

fn user(config: &OriginConfig) -> Origins {
    Origins::for_user(config, Credentials::default()).unwrap()
}

async fn whole(address: SocketAddr) -> Result<(WholeBody, Vec<u8>), OriginError> {
    let url = format!("http://{address}/a.bin").parse().unwrap();
    let mut whole = user(&OriginConfig::default()).whole(&url, None).await?;
    let mut all = Vec::new();
    while let Some(bytes) = whole.body.next().await? {
        all.extend_from_slice(&bytes);
    }
    Ok((whole, all))
}

#[tokio::test]
async fn heads_that_other_programs_read_are_read() {
    let many: String = (0..1500).map(|n| format!("X-{n}: 1\r\n")).collect();
    for (what, status, fields) in [
        ("a folded line", "HTTP/1.1 200 OK", &b"X-Odd: a\r\n b\r\n\tc\r\n"[..]),
        ("many fields", "HTTP/1.1 200 OK", many.as_bytes()),
        ("a space before the first name", "HTTP/1.1 200 OK", b" X-Odd: 1\r\n"),
        ("a space before the colon", "HTTP/1.1 200 OK", b"X-Odd : 1\r\n"),
        ("a control", "HTTP/1.1 200 OK", b"X-Odd: a\x7fb\r\n"),
        ("raw bytes", "HTTP/1.1 200 OK", b"X-Odd: \xff\xfe\r\n"),
        ("an odd name", "HTTP/1.1 200 OK", b"X Odd (1): 1\r\n"),
        ("a line without a colon", "HTTP/1.1 200 OK", b"nonsense\r\n"),
        ("an empty value", "HTTP/1.1 200 OK", b"X-Odd:\r\n"),
        ("line feeds alone", "HTTP/1.1 200 OK", b"X-Odd: a\nX-Two: b\n"),
        ("no reason phrase", "HTTP/1.1 200", b"X-Odd: 1\r\n"),
        ("a raw reason phrase", "HTTP/1.1 200 \u{d6}K", b"X-Odd: 1\r\n"),
        ("an older version", "HTTP/1.0 200 OK", b"X-Odd: 1\r\n"),
        ("small letters", "http/1.1 200 OK", b"X-Odd: a\r\n b\r\n"),
        ("mixed letters", "Http/1.0 200 OK", b"X-Odd: 1\r\n"),
        ("a carriage return within a value", "HTTP/1.1 200 OK", b"X-Odd: a\rb\r\n"),
        ("a carriage return too many", "HTTP/1.1 200 OK", b"X-Odd: a\r\r\n"),
    ] {
        let head = [status.as_bytes(), b"\r\n", fields, b"ETag: \"v1\"\r\nContent-Length: 5\r\n\r\nhello"].concat();
        let (address, _) = raw(head).await;
        match whole(address).await {
            Ok((whole, bytes)) => {
                assert_eq!((bytes, whole.size), (b"hello".to_vec(), Some(5)), "{what}");
                assert_eq!(whole.validator, Validator::Etag("\"v1\"".to_owned()), "{what}");
            }
            Err(error) => panic!("{what}: {error}"),
        }
    }
}

#[tokio::test]
async fn a_length_that_contradicts_itself_is_refused_in_every_spelling() {
    for fields in [
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length : 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5,\r\n 6\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: 5x\r\n",
    ] {
        let (address, _) = raw(format!("HTTP/1.1 200 OK\r\n{fields}\r\nhello!")).await;
        let refused = whole(address).await;
        assert!(
            refused.is_err() || refused.as_ref().is_ok_and(|(whole, _)| whole.size.is_none()),
            "{fields:?}: {refused:?}"
        );
    }
    let (address, _) = raw(vec![b'x'; 4 << 20]).await;
    assert_eq!(whole(address).await.unwrap_err().reason, JobReason::Garbled, "a head has an end");
    let (address, _) = raw("SSH-2.0-OpenSSH\r\n\r\n").await;
    assert_eq!(whole(address).await.unwrap_err().reason, JobReason::Garbled, "another protocol");
}

#[tokio::test]
async fn a_public_server_does_not_lead_the_user_into_a_private_network() {
    // A proxy looks names up, so every name but that of this machine is a public server.
    for (location, reached) in [
        ("http://10.0.0.1/x", 1),
        ("http://169.254.169.254/latest/meta-data", 1),
        ("http://[::1]:80/x", 1),
        ("http://127.0.0.1:1/x", 1),
    ] {
        let (proxy, seen) =
            raw(format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n")).await;
        let proxied = OriginConfig { origin_proxy: Some(format!("http://{proxy}").into()), ..OriginConfig::default() };
        let public = "http://public.example.org/x".parse().unwrap();
        let error = user(&proxied).whole(&public, None).await.unwrap_err();
        assert_eq!(error.reason, JobReason::NotPublic, "{location}: {error}");
        assert_eq!(seen.load(Ordering::Relaxed), reached, "{location}");
        // The user's own server may lead there, and any server if the user allows it: to the end of all redirects here.
        for (config, url) in [
            (proxied.clone(), "http://127.0.0.2/x"),
            (
                OriginConfig { origin_allow: ["0.0.0.0/0", "::/0"].map(|it| it.parse().unwrap()).to_vec(), ..proxied },
                "http://public.example.org/x",
            ),
        ] {
            let error = user(&config).whole(&url.parse().unwrap(), None).await.unwrap_err();
            assert_eq!(error.reason, JobReason::Redirects, "{location} {url}: {error}");
        }
    }
}

#[tokio::test]
async fn an_unknown_host_and_a_closed_port_are_told_apart_and_named() {
    let closed = { TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap() };
    let error = whole(closed).await.unwrap_err();
    assert_eq!((error.reason, error.obstacle), (JobReason::Unreachable, Some(Obstacle::Refused)), "{error}");
    assert!(error.detail.starts_with(&format!("{closed}: ")), "{error}");
    let unknown = "http://nobody.invalid/x?secret=1".parse().unwrap();
    let error = user(&OriginConfig::default()).whole(&unknown, None).await.unwrap_err();
    assert_eq!((error.reason, error.obstacle), (JobReason::Unreachable, Some(Obstacle::UnknownName)), "{error}");
    assert!(error.detail.contains("nobody.invalid") && !error.to_string().contains("secret"), "{error}");

    #[derive(Debug)]
    struct Away;
    impl Resolver for Away {
        fn addresses(&self, _: String) -> BoxFuture<'static, std::io::Result<Vec<IpAddr>>> {
            let failed = "failed to lookup address information: Temporary failure in name resolution";
            Box::pin(async move { Err(std::io::Error::other(failed)) })
        }
    }
    let config = OriginConfig::default();
    let origins = Origins::with(&config, AddressPolicy::Anywhere, Limits::default(), Arc::new(Away)).unwrap();
    let error = origins.whole(&"http://example.org/x".parse().unwrap(), None).await.unwrap_err();
    assert_eq!((error.reason, error.obstacle), (JobReason::Unreachable, Some(Obstacle::LookupFailed)), "{error}");
}

#[tokio::test]
async fn an_address_that_does_not_answer_does_not_hide_one_that_does() {
    /// A dead address (TEST-NET-1) before the living one, as by a slow name server.
    #[derive(Debug)]
    struct DeadFirst;
    impl Resolver for DeadFirst {
        fn addresses(&self, _: String) -> BoxFuture<'static, std::io::Result<Vec<IpAddr>>> {
            Box::pin(async {
                tokio::time::sleep(Duration::from_millis(600)).await;
                Ok(vec![[192, 0, 2, 1].into(), [127, 0, 0, 1].into()])
            })
        }
    }
    let (address, _) = raw("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").await;
    let limits = Limits::of_user(Duration::from_secs(4));
    let config = OriginConfig::default();
    let origins = Origins::with(&config, AddressPolicy::Anywhere, limits, Arc::new(DeadFirst)).unwrap();
    let url = format!("http://both.example.org:{}/x", address.port()).parse().unwrap();
    assert_eq!(origins.whole(&url, None).await.unwrap().size, Some(5));
}

#[tokio::test]
async fn a_steady_body_of_any_speed_reaches_its_user_and_a_server_bounds_its_own() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/a.bin", listener.local_addr().unwrap()).parse().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = [0; 4096];
                let _ = stream.read(&mut head).await;
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\n").await;
                for _ in 0..30 {
                    let _ = stream.write_all(b"x").await;
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            });
        }
    });
    let drain = async |limits| {
        let resolver = Arc::new(SystemResolver::default());
        let origins = Origins::with(&OriginConfig::default(), AddressPolicy::Anywhere, limits, resolver).unwrap();
        let mut body = origins.whole(&url, None).await?.body;
        let mut len = 0;
        while let Some(bytes) = body.next().await? {
            len += bytes.len();
        }
        Ok::<usize, OriginError>(len)
    };
    let timeout = Duration::from_secs(1);
    assert_eq!(drain(Limits::of_user(timeout)).await.unwrap(), 30);
    assert!(drain(Limits::of_server(timeout)).await.unwrap_err().detail.contains("too slow"));
}
