//! Origins that misbehave: what comes of it is a class of fault, in time, and never a wrong byte.
#![expect(clippy::unwrap_used, reason = "a test that fails says where")]

use std::{
    io,
    net::{IpAddr, SocketAddr},
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use ddm_origin::{Body, Fault, Guard, Limits, Names, Origins, Reach, Wanted};
use futures::future::BoxFuture;
use testkit::rogue::{Behaviour, Rogue};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use wire::{
    FileId, OriginUrl,
    job::{Reason, Validator},
};

const LEN: usize = 100_000;

/// Short, so that a test is; the ratios are those of the defaults.
const LIMITS: Limits = Limits {
    probe: Duration::from_secs(3),
    connect: Duration::from_secs(2),
    head: Duration::from_secs(1),
    idle: Duration::from_secs(1),
    window: Duration::from_secs(2),
    floor: 4096,
    redirects: 10,
};

/// Names as a test wants them: each question gets the next answer, and the last one for ever.
#[derive(Debug)]
struct Answers(Vec<IpAddr>, AtomicUsize);

impl Names for Answers {
    fn addresses(&self, _: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        let n = self.1.fetch_add(1, Ordering::Relaxed).min(self.0.len() - 1);
        let address = self.0.get(n).copied();
        Box::pin(async move { Ok(address.into_iter().collect()) })
    }
}

fn reach(allow: &str) -> Reach {
    Reach { origin_allow: vec![allow.parse().unwrap()], ..Reach::default() }
}

fn named(reach: &Reach, guard: Guard, answers: &[&str]) -> (Origins, Arc<Answers>) {
    let addresses = answers.iter().map(|address| address.parse().unwrap()).collect();
    let names = Arc::new(Answers(addresses, AtomicUsize::new(0)));
    (Origins::with(reach, guard, LIMITS, names.clone()).unwrap(), names)
}

/// Fetches from the loopback only.
fn origins() -> Origins {
    named(&reach("127.0.0.0/8"), Guard::PublicOnly, &["127.0.0.1"]).0
}

fn content() -> Vec<u8> {
    (0..LEN).map(|n| u8::try_from(n % 251).unwrap()).collect()
}

struct Scene {
    rogue: Rogue,
    url: OriginUrl,
    wanted: Wanted,
}

impl Scene {
    async fn with(behaviour: Behaviour) -> Self {
        let file = FileId::new();
        let rogue = Rogue::start(file, content().into()).await.unwrap();
        rogue.set(behaviour);
        let url = rogue.url().as_str().parse().unwrap();
        let wanted = Wanted { size: LEN as u64, validator: Validator::Etag(format!("\"{file}\"")) };
        Self { rogue, url, wanted }
    }

    /// The bytes of a range, or what was wrong.
    async fn range(&self, range: Range<u64>) -> Result<Vec<u8>, Fault> {
        collect(origins().range(&self.url, &self.wanted, range).await?).await
    }
}

async fn collect(mut body: Body) -> Result<Vec<u8>, Fault> {
    let mut all = Vec::new();
    while let Some(bytes) = body.next().await? {
        all.extend_from_slice(&bytes);
    }
    Ok(all)
}

fn header(name: &'static str, value: &str) -> Behaviour {
    Behaviour::Header { name, value: Some(value.to_owned()) }
}

fn absent(name: &'static str) -> Behaviour {
    Behaviour::Header { name, value: None }
}

#[tokio::test]
async fn an_honest_origin_is_looked_at_and_its_ranges_come_exactly() {
    let scene = Scene::with(Behaviour::Honest).await;
    let probe = origins().probe(&scene.url).await.unwrap();
    assert_eq!((probe.size, probe.ranges), (Some(LEN as u64), true));
    assert_eq!(probe.validator, scene.wanted.validator);
    assert_eq!(probe.name.as_str(), "content");
    assert_eq!(probe.origin, format!("http://{}", scene.rogue.address()));
    for range in [0..1, 7..4096, 0..LEN as u64, LEN as u64 - 1..LEN as u64] {
        let expected = content()[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()].to_vec();
        assert!(scene.range(range.clone()).await.unwrap() == expected, "{range:?}");
    }
    assert!(scene.range(5..5).await.unwrap().is_empty());
    let chunked = Scene::with(Behaviour::Chunked { ends: true }).await;
    assert_eq!(chunked.range(10..20).await.unwrap(), content()[10..20]);
}

#[tokio::test]
async fn what_is_not_the_answer_to_the_question_is_refused_by_its_class() {
    for (behaviour, reason) in [
        (Behaviour::WholeFile, Reason::NoRanges),
        (Behaviour::WrongRange, Reason::Changed),
        (header("Content-Range", "bytes 11-20/100000"), Reason::Garbled),
        (header("Content-Range", "bytes 10-18/100000"), Reason::Garbled),
        (header("Content-Range", "bytes 10-19/*"), Reason::Garbled),
        (header("Content-Range", "bytes 10-19/99999"), Reason::Changed),
        (header("Content-Range", "bytes 10-19/100001"), Reason::Changed),
        (absent("Content-Range"), Reason::Garbled),
        (header("Content-Length", "11"), Reason::Garbled),
        (Behaviour::WrongEtag, Reason::Changed),
        (header("ETag", "W/\"x\""), Reason::Changed),
        (absent("ETag"), Reason::Garbled),
        (header("Content-Encoding", "gzip"), Reason::Garbled),
        (header("Content-Encoding", "br"), Reason::Garbled),
        (Behaviour::Truncate { after: 5 }, Reason::Unreachable),
        (Behaviour::Reset { after: 5 }, Reason::Unreachable),
        (Behaviour::Chunked { ends: false }, Reason::Garbled),
        (Behaviour::Endless, Reason::Garbled),
        (Behaviour::Stall { after: 5 }, Reason::Unreachable),
        (Behaviour::Silent, Reason::Unreachable),
        (Behaviour::Interim, Reason::Unreachable),
        (Behaviour::Head { size: 10 << 20 }, Reason::Garbled),
        (Behaviour::Rubbish, Reason::Garbled),
        (Behaviour::Status { code: 403, retry_after: None }, Reason::Refused),
        (Behaviour::Status { code: 404, retry_after: None }, Reason::Refused),
        (Behaviour::Status { code: 412, retry_after: None }, Reason::Changed),
        (Behaviour::Status { code: 500, retry_after: None }, Reason::Busy),
        (Behaviour::Status { code: 204, retry_after: None }, Reason::Garbled),
        (Behaviour::Status { code: 304, retry_after: None }, Reason::Garbled),
        (Behaviour::Status { code: 302, retry_after: None }, Reason::Redirects),
    ] {
        let scene = Scene::with(behaviour.clone()).await;
        let begun = Instant::now();
        let fault = scene.range(10..20).await.unwrap_err();
        assert_eq!(fault.reason, reason, "{behaviour:?}: {fault}");
        assert!(begun.elapsed() < Duration::from_secs(8), "{behaviour:?}: {:?}", begun.elapsed());
        assert!(!fault.detail.contains("[2J") && fault.detail.len() < 400, "{fault}");
    }
}

#[tokio::test]
async fn a_busy_origin_says_when_it_may_be_asked_again() {
    for code in [429, 503] {
        let scene = Scene::with(Behaviour::Status { code, retry_after: Some(7) }).await;
        let fault = origins().probe(&scene.url).await.unwrap_err();
        assert_eq!((fault.reason, fault.retry_after), (Reason::Busy, Some(Duration::from_secs(7))));
    }
}

#[tokio::test]
async fn a_body_that_drips_ends_by_its_speed_and_one_that_flows_does_not() {
    let drip = Scene::with(Behaviour::Drip(Duration::from_millis(20))).await;
    let begun = Instant::now();
    // Its head alone takes longer than a head may.
    assert_eq!(drip.range(0..LEN as u64).await.unwrap_err().reason, Reason::Unreachable);
    let slow = Scene::with(Behaviour::Throttle { rate: 2048 }).await;
    let fault = slow.range(0..LEN as u64).await.unwrap_err();
    assert_eq!(fault.reason, Reason::Unreachable);
    assert!(fault.detail.contains("too slow"), "{fault}");
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    let steady = Scene::with(Behaviour::Throttle { rate: 40_000 }).await;
    assert!(steady.range(0..LEN as u64).await.unwrap() == content());
}

#[tokio::test]
async fn whoever_takes_the_bytes_may_be_slow() {
    let scene = Scene::with(Behaviour::Honest).await;
    let mut body = origins().range(&scene.url, &scene.wanted, 0..LEN as u64).await.unwrap();
    let mut len = 0;
    while let Some(bytes) = body.next().await.unwrap() {
        len += bytes.len();
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    assert_eq!(len, LEN);
}

#[tokio::test]
async fn redirects_are_followed_by_the_rules_of_the_first_address() {
    let to = |text: &str| Behaviour::Redirect(text.parse().unwrap());
    for (text, reason) in [
        ("file:///etc/passwd", Reason::Redirects),
        ("ftp://127.0.0.1/x", Reason::Redirects),
        ("http://me:secret@127.0.0.1/x", Reason::Redirects),
        ("http://10.0.0.1/x", Reason::NotPublic),
        ("http://2852039166/latest/meta-data", Reason::NotPublic),
        ("http://[::ffff:169.254.169.254]/", Reason::NotPublic),
        ("http://[::1]/x", Reason::NotPublic),
        ("http://0/x", Reason::NotPublic),
    ] {
        let scene = Scene::with(to(text)).await;
        let fault = origins().probe(&scene.url).await.unwrap_err();
        assert_eq!(fault.reason, reason, "{text}: {fault}");
        assert!(!fault.to_string().contains("secret"));
    }
    let circle = Scene::with(Behaviour::Honest).await;
    circle.rogue.set(Behaviour::Redirect(circle.rogue.url()));
    assert_eq!(origins().probe(&circle.url).await.unwrap_err().reason, Reason::Redirects);
    assert_eq!(circle.rogue.asked().len(), 11, "the first request and ten redirects");
    let goal = Scene::with(Behaviour::Honest).await;
    let way = Scene::with(Behaviour::Redirect(goal.rogue.url())).await;
    let bytes = origins().range(&way.url, &goal.wanted, 3..9).await.unwrap();
    assert_eq!(collect(bytes).await.unwrap(), content()[3..9]);
    assert_eq!(origins().probe(&way.url).await.unwrap().origin, format!("http://{}", goal.rogue.address()));
}

/// An origin that answers every connection with this, and counts them.
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
async fn an_address_that_is_not_public_sees_no_connection_under_any_name() {
    let (address, seen) = raw("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let port = address.port();
    let shut = |answers: &[&str]| named(&Reach::default(), Guard::PublicOnly, answers).0;
    for host in
        ["127.0.0.1", "2130706433", "0x7f.1", "0177.0.0.1", "[::ffff:127.0.0.1]", "localhost", "rebind.example.org"]
    {
        let url = format!("http://{host}:{port}/x").parse().unwrap();
        let fault = shut(&["127.0.0.1"]).probe(&url).await.unwrap_err();
        assert_eq!(fault.reason, Reason::NotPublic, "{host}: {fault}");
    }
    assert_eq!(seen.load(Ordering::Relaxed), 0);
    // The same are asked once they are opened, or when nothing is shut.
    let url = format!("http://rebind.example.org:{port}/x").parse().unwrap();
    assert_eq!(origins().probe(&url).await.unwrap().size, Some(0));
    let (anywhere, _) = named(&Reach::default(), Guard::Anywhere, &["127.0.0.1"]);
    assert_eq!(anywhere.probe(&url).await.unwrap().size, Some(0));
    assert_eq!(seen.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_name_that_answers_otherwise_the_second_time_gains_nothing() {
    // 127.1.0.0/16 stands for what is public here.
    let (inside, seen) = raw("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret").await;
    let (origins, names) = named(&reach("127.1.0.0/16"), Guard::PublicOnly, &["127.1.0.1", "127.0.0.1"]);
    let url = format!("http://rebind.example.org:{}/x", inside.port()).parse().unwrap();
    // The first answer is looked at and connected to; nobody listens there.
    assert_eq!(origins.probe(&url).await.unwrap_err().reason, Reason::Unreachable);
    assert_eq!(names.1.load(Ordering::Relaxed), 1, "one question for one connection");
    assert_eq!(origins.probe(&url).await.unwrap_err().reason, Reason::NotPublic);
    assert_eq!(seen.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn names_with_addresses_of_both_kinds_are_reached_at_the_open_ones() {
    #[derive(Debug)]
    struct Both;
    impl Names for Both {
        fn addresses(&self, _: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
            Box::pin(async { Ok(vec![[127, 0, 0, 1].into(), [127, 1, 0, 1].into()]) })
        }
    }
    let (address, seen) = raw("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let origins = Origins::with(&reach("127.1.0.0/16"), Guard::PublicOnly, LIMITS, Arc::new(Both)).unwrap();
    let url = format!("http://both.example.org:{}/x", address.port()).parse().unwrap();
    assert_eq!(origins.probe(&url).await.unwrap_err().reason, Reason::Unreachable);
    assert_eq!(seen.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_name_that_nobody_knows_and_a_port_that_nobody_opened_are_unreachable() {
    let plain = Origins::new(&Reach::default(), Guard::PublicOnly).unwrap();
    let unknown = "http://nobody.invalid/x".parse().unwrap();
    assert_eq!(plain.probe(&unknown).await.unwrap_err().reason, Reason::Unreachable);
    let closed = { TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap() };
    let url = format!("http://{closed}/x?secret=1").parse().unwrap();
    let fault = origins().probe(&url).await.unwrap_err();
    assert_eq!(fault.reason, Reason::Unreachable);
    assert!(!fault.to_string().contains("secret"), "{fault}");
    // Not TLS at all.
    let (address, _) = raw("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let fault = origins().probe(&format!("https://{address}/x").parse().unwrap()).await.unwrap_err();
    assert_eq!(fault.reason, Reason::NotSecure, "{fault}");
}

#[tokio::test]
async fn all_of_it_comes_also_without_ranges_lengths_and_validators() {
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
    assert_eq!(collect(whole.body).await.unwrap_err().reason, Reason::Unreachable);
}

#[tokio::test]
async fn a_plain_download_goes_on_only_with_the_same_version() {
    let scene = Scene::with(Behaviour::Honest).await;
    let resume = Some((90_000, scene.wanted.validator.clone()));
    let whole = origins().whole(&scene.url, resume.clone()).await.unwrap();
    assert_eq!((whole.start, whole.size), (90_000, Some(LEN as u64)));
    assert!(collect(whole.body).await.unwrap() == content()[90_000..]);
    scene.rogue.set(Behaviour::WholeFile);
    let whole = origins().whole(&scene.url, resume.clone()).await.unwrap();
    assert_eq!(whole.start, 0);
    assert!(collect(whole.body).await.unwrap() == content());
    scene.rogue.set(Behaviour::WrongEtag);
    assert_eq!(origins().whole(&scene.url, resume).await.unwrap_err().reason, Reason::Changed);
}
