//! Origins that misbehave: each ends in a class of error, in bounded time, and never in a wrong byte.
#![expect(clippy::unwrap_used, reason = "a test that fails says where")]

mod fixture;

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use ddm_origin::{AddressPolicy, OriginConfig, Origins, Resolver, ResumePoint};
use futures::future::BoxFuture;
use testkit::rogue::Behaviour;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use wire::{
    OriginUrl,
    job::{JobReason, Validator},
};

use self::fixture::{Fixture, LEN, LIMITS, absent, allowing, collect, content, header, origins, resolved};

#[tokio::test]
async fn an_honest_origin_is_probed_and_its_ranges_arrive_exactly() {
    let fixture = Fixture::with(Behaviour::Honest).await;
    let probe = origins().probe(&fixture.url).await.unwrap();
    assert_eq!((probe.size, probe.ranges), (Some(LEN as u64), true));
    assert_eq!(probe.validator, fixture.version.validator);
    assert_eq!(probe.name.as_str(), "content");
    assert_eq!(probe.origin, format!("http://{}", fixture.rogue.address()));
    for range in [0..1, 7..4096, 0..LEN as u64, LEN as u64 - 1..LEN as u64] {
        let expected = content()[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()].to_vec();
        assert!(fixture.range(range.clone()).await.unwrap() == expected, "{range:?}");
    }
    assert!(fixture.range(5..5).await.unwrap().is_empty());
    let chunked = Fixture::with(Behaviour::Chunked { ends: true }).await;
    assert_eq!(chunked.range(10..20).await.unwrap(), content()[10..20]);
}

#[tokio::test]
async fn a_response_that_does_not_answer_the_request_is_refused_with_its_class() {
    for (behaviour, reason) in [
        (Behaviour::WholeFile, JobReason::NoRanges),
        (Behaviour::WrongRange, JobReason::Changed),
        (header("Content-Range", "bytes 11-20/100000"), JobReason::Garbled),
        (header("Content-Range", "bytes 10-18/100000"), JobReason::Garbled),
        (header("Content-Range", "bytes 10-19/*"), JobReason::Garbled),
        (header("Content-Range", "bytes 10-19/99999"), JobReason::Changed),
        (header("Content-Range", "bytes 10-19/100001"), JobReason::Changed),
        (absent("Content-Range"), JobReason::Garbled),
        (header("Content-Length", "11"), JobReason::Garbled),
        (Behaviour::WrongEtag, JobReason::Changed),
        (header("ETag", "W/\"x\""), JobReason::Changed),
        (absent("ETag"), JobReason::Garbled),
        (header("Content-Encoding", "gzip"), JobReason::Garbled),
        (header("Content-Encoding", "br"), JobReason::Garbled),
        (Behaviour::Truncate { after: 5 }, JobReason::Unreachable),
        (Behaviour::Reset { after: 5 }, JobReason::Unreachable),
        (Behaviour::Chunked { ends: false }, JobReason::Garbled),
        (Behaviour::Endless, JobReason::Garbled),
        (Behaviour::Stall { after: 5 }, JobReason::Unreachable),
        (Behaviour::Silent, JobReason::Unreachable),
        (Behaviour::Interim, JobReason::Unreachable),
        (Behaviour::Head { size: 10 << 20 }, JobReason::Garbled),
        (Behaviour::Rubbish, JobReason::Garbled),
        (Behaviour::Status { code: 403, retry_after: None }, JobReason::Refused),
        (Behaviour::Status { code: 404, retry_after: None }, JobReason::Refused),
        (Behaviour::Status { code: 412, retry_after: None }, JobReason::Changed),
        (Behaviour::Status { code: 500, retry_after: None }, JobReason::Busy),
        (Behaviour::Status { code: 204, retry_after: None }, JobReason::Garbled),
        (Behaviour::Status { code: 304, retry_after: None }, JobReason::Garbled),
        (Behaviour::Status { code: 302, retry_after: None }, JobReason::Redirects),
    ] {
        let fixture = Fixture::with(behaviour.clone()).await;
        let begun = Instant::now();
        let error = fixture.range(10..20).await.unwrap_err();
        assert_eq!(error.reason, reason, "{behaviour:?}: {error}");
        assert!(begun.elapsed() < Duration::from_secs(8), "{behaviour:?}: {:?}", begun.elapsed());
        assert!(!error.detail.contains("[2J") && error.detail.len() < 400, "{error}");
    }
}

#[tokio::test]
async fn a_busy_origin_states_when_to_try_again() {
    for code in [429, 503] {
        let fixture = Fixture::with(Behaviour::Status { code, retry_after: Some(7) }).await;
        let error = origins().probe(&fixture.url).await.unwrap_err();
        assert_eq!((error.reason, error.retry_after), (JobReason::Busy, Some(Duration::from_secs(7))));
    }
}

#[tokio::test]
async fn a_body_that_is_too_slow_is_ended_and_a_steady_one_is_not() {
    let drip = Fixture::with(Behaviour::Drip(Duration::from_millis(20))).await;
    let begun = Instant::now();
    // Its head alone takes longer than a head may.
    assert_eq!(drip.range(0..LEN as u64).await.unwrap_err().reason, JobReason::Unreachable);
    let slow = Fixture::with(Behaviour::Throttle { rate: 2048 }).await;
    let error = slow.range(0..LEN as u64).await.unwrap_err();
    assert_eq!(error.reason, JobReason::Unreachable);
    assert!(error.detail.contains("too slow"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    let steady = Fixture::with(Behaviour::Throttle { rate: 40_000 }).await;
    assert!(steady.range(0..LEN as u64).await.unwrap() == content());
}

#[tokio::test]
async fn the_caller_may_consume_the_bytes_slowly() {
    let fixture = Fixture::with(Behaviour::Honest).await;
    let mut body = origins().range(&fixture.url, &fixture.version, 0..LEN as u64).await.unwrap();
    let mut len = 0;
    while let Some(bytes) = body.next().await.unwrap() {
        len += bytes.len();
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    assert_eq!(len, LEN);
}

#[tokio::test]
async fn the_target_of_a_redirect_is_checked_like_the_first_address() {
    let to = |text: &str| Behaviour::Redirect(text.parse().unwrap());
    for (text, reason) in [
        ("file:///etc/passwd", JobReason::Redirects),
        ("ftp://127.0.0.1/x", JobReason::Redirects),
        ("http://me:secret@10.0.0.1/x", JobReason::NotPublic),
        ("http://10.0.0.1/x", JobReason::NotPublic),
        ("http://2852039166/latest/meta-data", JobReason::NotPublic),
        ("http://[::ffff:169.254.169.254]/", JobReason::NotPublic),
        ("http://[::1]/x", JobReason::NotPublic),
        ("http://0/x", JobReason::NotPublic),
    ] {
        let fixture = Fixture::with(to(text)).await;
        let error = origins().probe(&fixture.url).await.unwrap_err();
        assert_eq!(error.reason, reason, "{text}: {error}");
        assert!(!error.to_string().contains("secret"));
    }
    let circle = Fixture::with(Behaviour::Honest).await;
    circle.rogue.set(Behaviour::Redirect(circle.rogue.url()));
    assert_eq!(origins().probe(&circle.url).await.unwrap_err().reason, JobReason::Redirects);
    assert_eq!(circle.rogue.asked().len(), 11, "the first request and ten redirects");
    let goal = Fixture::with(Behaviour::Honest).await;
    let way = Fixture::with(Behaviour::Redirect(goal.rogue.url())).await;
    let bytes = origins().range(&way.url, &goal.version, 3..9).await.unwrap();
    assert_eq!(collect(bytes).await.unwrap(), content()[3..9]);
    assert_eq!(origins().probe(&way.url).await.unwrap().origin, format!("http://{}", goal.rogue.address()));
}

/// Starts an origin that sends `answer` on every connection, and counts the connections.
async fn raw(answer: &'static str) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, seen) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let count = seen.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(async move {
                let mut head = [0; 4096];
                let _ = stream.read(&mut head).await;
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.shutdown().await;
            });
        }
    });
    (address, seen)
}

#[tokio::test]
async fn a_private_address_receives_no_connection_under_any_name() {
    let (address, seen) = raw("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let port = address.port();
    let public_only = |answers: &[&str]| resolved(&OriginConfig::default(), AddressPolicy::PublicOnly, answers).0;
    for host in
        ["127.0.0.1", "2130706433", "0x7f.1", "0177.0.0.1", "[::ffff:127.0.0.1]", "localhost", "rebind.example.org"]
    {
        let url = format!("http://{host}:{port}/x").parse().unwrap();
        let error = public_only(&["127.0.0.1"]).probe(&url).await.unwrap_err();
        assert_eq!(error.reason, JobReason::NotPublic, "{host}: {error}");
    }
    assert_eq!(seen.load(Ordering::Relaxed), 0);
    // The same address is reached once it is allowed, or when every address is.
    let url = format!("http://rebind.example.org:{port}/x").parse().unwrap();
    assert_eq!(origins().probe(&url).await.unwrap().size, Some(0));
    let (anywhere, _) = resolved(&OriginConfig::default(), AddressPolicy::Anywhere, &["127.0.0.1"]);
    assert_eq!(anywhere.probe(&url).await.unwrap().size, Some(0));
    assert_eq!(seen.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_name_that_resolves_differently_the_second_time_gains_nothing() {
    // 127.1.0.0/16 stands for the public addresses.
    let (inside, seen) = raw("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret").await;
    let (origins, resolver) =
        resolved(&allowing("127.1.0.0/16"), AddressPolicy::PublicOnly, &["127.1.0.1", "127.0.0.1"]);
    let url = format!("http://rebind.example.org:{}/x", inside.port()).parse().unwrap();
    // The first answer is checked and connected to; no process listens there.
    assert_eq!(origins.probe(&url).await.unwrap_err().reason, JobReason::Unreachable);
    assert_eq!(resolver.queries.load(Ordering::Relaxed), 1, "one query for one connection");
    assert_eq!(origins.probe(&url).await.unwrap_err().reason, JobReason::NotPublic);
    assert_eq!(seen.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_name_with_addresses_of_both_kinds_is_reached_at_the_allowed_one() {
    #[derive(Debug)]
    struct Both;
    impl Resolver for Both {
        fn addresses(&self, _: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
            Box::pin(async { Ok(vec![[127, 0, 0, 1].into(), [127, 1, 0, 1].into()]) })
        }
    }
    let (address, seen) = raw("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let origins = Origins::with(&allowing("127.1.0.0/16"), AddressPolicy::PublicOnly, LIMITS, Arc::new(Both)).unwrap();
    let url = format!("http://both.example.org:{}/x", address.port()).parse().unwrap();
    assert_eq!(origins.probe(&url).await.unwrap_err().reason, JobReason::Unreachable);
    assert_eq!(seen.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn an_unknown_name_and_a_closed_port_are_unreachable() {
    let plain = Origins::new(&OriginConfig::default(), AddressPolicy::PublicOnly).unwrap();
    let unknown = "http://nobody.invalid/x".parse().unwrap();
    assert_eq!(plain.probe(&unknown).await.unwrap_err().reason, JobReason::Unreachable);
    let closed = { TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap() };
    let url = format!("http://{closed}/x?secret=1").parse().unwrap();
    let error = origins().probe(&url).await.unwrap_err();
    assert_eq!(error.reason, JobReason::Unreachable);
    assert!(!error.to_string().contains("secret"), "{error}");
    // No TLS at all.
    let (address, _) = raw("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let error = origins().probe(&format!("https://{address}/x").parse().unwrap()).await.unwrap_err();
    assert_eq!(error.reason, JobReason::NotSecure, "{error}");
}

#[tokio::test]
async fn the_whole_file_arrives_without_ranges_lengths_or_validators() {
    let (address, _) = raw("HTTP/1.1 200 OK\r\n\r\nhello").await;
    let url: OriginUrl = format!("http://{address}/a%20b.txt?x=1").parse().unwrap();
    let whole = origins().whole(&url, None).await.unwrap();
    assert_eq!((whole.start, whole.size, whole.name.as_str()), (0, None, "a b.txt"));
    assert_eq!(whole.validator, Validator::None);
    assert_eq!(collect(whole.body).await.unwrap(), b"hello");
    let probe = origins().probe(&url).await.unwrap();
    assert_eq!((probe.size, probe.ranges), (None, false));
    let (address, _) = raw("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello").await;
    let url: OriginUrl = format!("http://{address}/").parse().unwrap();
    let whole = origins().whole(&url, None).await.unwrap();
    assert_eq!(collect(whole.body).await.unwrap_err().reason, JobReason::Unreachable);
}

#[tokio::test]
async fn a_plain_download_resumes_only_the_same_version() {
    let fixture = Fixture::with(Behaviour::Honest).await;
    let resume = Some(ResumePoint { offset: 90_000, validator: fixture.version.validator.clone() });
    let whole = origins().whole(&fixture.url, resume.clone()).await.unwrap();
    assert_eq!((whole.start, whole.size), (90_000, Some(LEN as u64)));
    assert!(collect(whole.body).await.unwrap() == content()[90_000..]);
    fixture.rogue.set(Behaviour::WholeFile);
    let whole = origins().whole(&fixture.url, resume.clone()).await.unwrap();
    assert_eq!(whole.start, 0);
    assert!(collect(whole.body).await.unwrap() == content());
    fixture.rogue.set(Behaviour::WrongEtag);
    assert_eq!(origins().whole(&fixture.url, resume).await.unwrap_err().reason, JobReason::Changed);
}

#[tokio::test]
async fn requests_go_through_the_configured_proxy() {
    let (proxy, connections) = raw("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").await;
    let config = OriginConfig { origin_proxy: Some(format!("http://{proxy}").into()), ..OriginConfig::default() };
    let (origins, resolver) = resolved(&config, AddressPolicy::PublicOnly, &["127.0.0.1"]);
    let probe = origins.probe(&"http://origin.example.org/x".parse().unwrap()).await.unwrap();
    assert_eq!(probe.size, Some(5));
    assert_eq!(connections.load(Ordering::Relaxed), 1);
    assert_eq!(resolver.queries.load(Ordering::Relaxed), 0, "the proxy resolves the name of the origin");
}
