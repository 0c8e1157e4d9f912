use std::{fs::File, io::Write as _, time::Duration};

use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use tokio_util::sync::CancellationToken;

use super::*;
use crate::content::outlet::{MAX_PIECE_BYTES, ResponseControl, STAND_IN};

#[derive(Debug, Default)]
struct Control(CancellationToken);

impl ResponseControl for Control {
    fn cancellation(&self) -> &CancellationToken {
        &self.0
    }

    fn rate_limit(&self) -> Option<&Arc<Bucket>> {
        None
    }
}

fn control() -> Arc<dyn ResponseControl> {
    Arc::new(Control::default())
}

async fn pair() -> (SendfileStream, Outlet, TcpStream) {
    pair_over(&Sendfile::default()).await
}

async fn pair_over(transport: &Sendfile) -> (SendfileStream, Outlet, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let far = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (stream, outlet) = transport.wrap(listener.accept().await.unwrap().0);
    (stream, outlet, far)
}

/// Returns the time until the next byte may flow by the limit of a transport.
fn next_wait(transport: &Sendfile) -> Duration {
    let now = std::time::Instant::now();
    transport.rate_limit.as_ref().unwrap().reserve(0, now).saturating_duration_since(now)
}

fn file(bytes: &[u8]) -> Arc<File> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    Arc::new(file)
}

#[tokio::test]
async fn pieces_and_bytes_arrive_in_order() {
    let (mut near, outlet, mut far) = pair().await;
    let content: Vec<u8> = (0..3 * MAX_PIECE_BYTES).map(|n| u8::try_from(n % 251).unwrap()).collect();
    let (file, body) = (file(&content), control());
    let reader = tokio::spawn(async move {
        let mut all = Vec::new();
        far.read_to_end(&mut all).await.unwrap();
        all
    });
    near.write_all(b"head").await.unwrap();
    for start in [0, MAX_PIECE_BYTES, 2 * MAX_PIECE_BYTES] {
        let start = u64::try_from(start).unwrap();
        near.write_all(&outlet.stand_in(&file, start..start + (1 << 20), &body)).await.unwrap();
    }
    near.write_all(&outlet.stand_in(&file, 7..8, &body)).await.unwrap();
    near.write_all(b"tail").await.unwrap();
    near.shutdown().await.unwrap();
    let expected = [b"head".as_slice(), &content, &content[7..8], b"tail"].concat();
    assert!(reader.await.unwrap() == expected);
    assert!(outlet.pieces().is_empty());
}

#[tokio::test]
async fn what_stands_for_nothing_or_for_another_piece_ends_the_connection() {
    let (mut near, outlet, _far) = pair().await;
    assert!(near.write_all(&STAND_IN[..10]).await.is_err());
    let bytes = outlet.stand_in(&file(b"0123456789"), 0..10, &control());
    assert!(near.write_all(&bytes[..9]).await.is_err());
}

#[tokio::test]
async fn a_file_that_shrank_ends_the_connection() {
    let (mut near, outlet, _far) = pair().await;
    let bytes = outlet.stand_in(&file(b"0123"), 0..10, &control());
    assert_eq!(near.write_all(&bytes).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn a_cut_ends_a_connection_whose_peer_takes_nothing_even_within_the_last_piece() {
    let (mut near, outlet, _far) = pair().await;
    let token = CancellationToken::new();
    let (file, control) =
        (file(&vec![1; MAX_PIECE_BYTES]), Arc::new(Control(token.clone())) as Arc<dyn ResponseControl>);
    let writing = async move {
        // More than the socket's buffers take. With the last piece nothing else is left of the body.
        let pieces: Vec<Bytes> = (0..64).map(|_| outlet.stand_in(&file, 0..1 << 20, &control)).collect();
        drop(control);
        for piece in pieces {
            if let Err(error) = near.write_all(&piece).await {
                return Some(error.kind());
            }
        }
        None
    };
    let mut writing = Box::pin(writing);
    // Runs until the socket's buffers are full and nothing goes on.
    assert!(tokio::time::timeout(Duration::from_millis(200), &mut writing).await.is_err());
    token.cancel();
    let ended = tokio::time::timeout(Duration::from_secs(5), writing).await.unwrap();
    assert_eq!(ended, Some(io::ErrorKind::ConnectionAborted));
}

#[tokio::test]
async fn a_body_runs_until_its_last_piece_is_sent_and_no_longer() {
    let (mut near, outlet, _far) = pair().await;
    let control = control();
    let piece = outlet.stand_in(&file(b"0123"), 0..4, &control);
    let left = Arc::downgrade(&control);
    drop(control);
    assert!(left.upgrade().is_some());
    near.write_all(&piece).await.unwrap();
    assert!(left.upgrade().is_none());
}

#[tokio::test]
async fn a_connection_that_ends_while_it_waits_for_the_rate_limit_gives_its_share_back() {
    let transport = Sendfile::new(Some(1000));
    let (mut near, outlet, _far) = pair_over(&transport).await;
    let bytes = outlet.stand_in(&file(&[1; 4000]), 0..4000, &control());
    assert!(tokio::time::timeout(Duration::from_millis(50), near.write_all(&bytes)).await.is_err());
    let withheld = near.withheld_until().expect("withheld by the limit, not by the peer");
    assert!(withheld > Instant::now() + Duration::from_secs(3));
    assert!(next_wait(&transport) > Duration::from_secs(3));
    drop(near);
    assert_eq!(next_wait(&transport), Duration::ZERO);
}

/// Fills the buffers of a connection past the runtime, which goes on to take the socket for one that takes bytes.
fn fill(stream: &SendfileStream) {
    let send = || rustix::net::send(stream.tcp.as_fd(), &[1; 4096], SendFlags::DONTWAIT).is_ok();
    while send() {
        while send() {}
        // The peer's side takes some more, until its last probe and delayed acknowledgement.
        std::thread::sleep(Duration::from_millis(250));
    }
}

#[tokio::test]
async fn a_peer_that_takes_nothing_gives_its_share_back_to_the_others() {
    let transport = Sendfile::new(Some(1000));
    let (mut near, outlet, _far) = pair_over(&transport).await;
    near.tcp.writable().await.unwrap();
    fill(&near);
    let bytes = outlet.stand_in(&file(&[1; 60]), 0..60, &control());
    let limit = transport.rate_limit.as_ref().unwrap();
    let reserve = |bytes| limit.reserve(bytes, std::time::Instant::now());
    let writing = tokio::time::timeout(Duration::from_millis(200), near.write_all(&bytes));
    let (writing, due) = tokio::join!(writing, async { reserve(1000) });
    assert!(writing.is_err());
    assert_eq!((reserve(0), near.withheld_until()), (due - Duration::from_millis(60), None));
}

#[tokio::test]
async fn a_peer_that_is_known_to_take_nothing_reserves_no_share() {
    let transport = Sendfile::new(Some(1000));
    let (mut near, outlet, _far) = pair_over(&transport).await;
    near.tcp.writable().await.unwrap();
    fill(&near);
    assert!(near.tcp.try_write(&[1]).is_err(), "the runtime notices");
    let bytes = outlet.stand_in(&file(&[1; 4000]), 0..4000, &control());
    assert!(tokio::time::timeout(Duration::from_millis(50), near.write_all(&bytes)).await.is_err());
    assert_eq!((next_wait(&transport), near.withheld_until()), (Duration::ZERO, None));
}
