//! Whole requests through the filter, over a connection in memory.

use tokio::io::{AsyncWriteExt as _, DuplexStream};

use super::{head::MAX_HEAD_SIZE, *};

const TIMEOUTS: Timeouts = Timeouts { head: Duration::from_secs(15), body: Duration::from_secs(30) };

fn filter() -> (RequestFilter<DuplexStream>, DuplexStream, Arc<Rejections>) {
    let (near, far) = tokio::io::duplex(1 << 20);
    let rejections = Arc::<Rejections>::default();
    (RequestFilter::new(near, TIMEOUTS, rejections.clone()), far, rejections)
}

/// Returns what passes of `sent`, and the status of the rejection after `requests` accepted requests.
async fn pass(sent: &[u8], requests: u64) -> (String, Option<u16>) {
    let (mut filter, mut far, rejections) = filter();
    far.write_all(sent).await.unwrap();
    let mut passed = Vec::new();
    let reading = async { while filter.read_buf(&mut passed).await.is_ok_and(|n| n > 0) {} };
    let _ = tokio::time::timeout(Duration::from_secs(1), reading).await;
    for _ in 0..requests {
        assert_eq!(rejections.next(), None);
    }
    (String::from_utf8(passed).unwrap(), rejections.next().map(|problem| problem.status))
}

#[tokio::test(start_paused = true)]
async fn requests_and_their_bodies_pass_unchanged_one_after_the_other() {
    let sent = "GET /a HTTP/1.1\r\nhost: x\r\n\r\n\
        POST /b HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\nbody\
        POST /c HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n\
        GET /d HTTP/1.0\r\n\r\n";
    assert_eq!(pass(sent.as_bytes(), 4).await, (sent.to_owned(), None));
}

#[tokio::test(start_paused = true)]
async fn what_follows_a_body_is_checked_as_a_head_and_nothing_passes_behind_a_rejection() {
    let good = "POST /b HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\nbody";
    let sent = format!("{good}GET /../ HTTP/1.1\r\nhost: x\r\n\r\nGET /c HTTP/1.1\r\nhost: x\r\n\r\n");
    let (passed, rejected) = pass(sent.as_bytes(), 1).await;
    assert_eq!(rejected, Some(400));
    assert_eq!(passed.strip_prefix(good), Some("GET / HTTP/1.1\r\nhost: refused\r\n\r\n"));
}

#[tokio::test(start_paused = true)]
async fn a_head_without_end_is_refused_as_soon_as_it_is_too_large() {
    let fields = format!("GET / HTTP/1.1\r\nhost: x\r\nbig: {}", "a".repeat(100_000));
    assert_eq!(pass(fields.as_bytes(), 0).await.1, Some(431));
    let target = format!("GET /{}", "a".repeat(100_000));
    assert_eq!(pass(target.as_bytes(), 0).await.1, Some(414));
    let complete = format!("GET / HTTP/1.1\r\nhost: x\r\nbig: {}\r\n\r\n", "a".repeat(MAX_HEAD_SIZE));
    assert_eq!(pass(complete.as_bytes(), 0).await.1, Some(431));
    let just = format!("GET / HTTP/1.1\r\nhost: x\r\nbig: {}\r\n\r\n", "a".repeat(MAX_HEAD_SIZE - 40));
    assert_eq!(pass(just.as_bytes(), 1).await, (just.clone(), None));
}

#[tokio::test(start_paused = true)]
async fn a_head_that_drips_is_refused_after_its_time_and_not_later() {
    let (mut filter, mut far, rejections) = filter();
    let started = Instant::now();
    let dripping = async {
        for byte in b"GET / HTTP/1.1\r\nhost: ".iter().chain(std::iter::repeat(&b'x')) {
            tokio::time::sleep(Duration::from_secs(1)).await;
            if far.write_all(&[*byte]).await.is_err() {
                return;
            }
        }
    };
    let mut bytes = [0; 64];
    let n = tokio::select! {
        n = filter.read(&mut bytes) => n.unwrap(),
        () = dripping => 0,
    };
    assert!(n > 0 && started.elapsed() <= Duration::from_secs(16), "{:?}", started.elapsed());
    assert_eq!(rejections.next().map(|problem| problem.status), Some(408));
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_a_request_ends_without_an_answer() {
    let (mut filter, _far, rejections) = filter();
    assert_eq!(filter.read(&mut [0; 64]).await.unwrap(), 0);
    assert_eq!(rejections.next(), None);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stops_coming_fails_and_one_that_drips_goes_on() {
    let (mut filter, mut far, _rejections) = filter();
    far.write_all(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\nb").await.unwrap();
    let mut bytes = [0; 256];
    assert!(filter.read(&mut bytes).await.unwrap() > 0);
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_secs(29)).await;
        far.write_all(b"o").await.unwrap();
        assert!(filter.read(&mut bytes).await.unwrap() > 0);
    }
    let error = filter.read(&mut bytes).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
}

#[tokio::test(start_paused = true)]
async fn a_malformed_chunk_fails_the_body() {
    let (mut filter, mut far, _rejections) = filter();
    far.write_all(b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n").await.unwrap();
    assert!(filter.read(&mut [0; 256]).await.unwrap() > 0);
    far.write_all(b"3\nabc\n").await.unwrap();
    assert_eq!(filter.read(&mut [0; 256]).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
}
