//! P8: every wait for a peer ends.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use ddm_testkit::{cluster::Cluster, process::eventually, window};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{sleep, timeout},
};

use super::{HANG_TIMEOUT, listeners, pair, parse};

/// The servers' windows, and what they are told.
fn windows() -> (Duration, Duration, Duration, [String; 6]) {
    let (head, idle) = (
        window(Duration::from_secs(2), Duration::from_secs(15)),
        window(Duration::from_secs(3), Duration::from_secs(60)),
    );
    let body = window(Duration::from_secs(2), Duration::from_secs(30));
    let settings = [("--head-timeout", head), ("--idle-timeout", idle), ("--body-timeout", body)];
    let args = settings.map(|(name, time)| [name.to_owned(), format!("{}s", time.as_secs())]);
    let [[a, b], [c, d], [e, f]] = args;
    (head, idle, body, [a, b, c, d, e, f])
}

async fn fixture() -> anyhow::Result<(Cluster, Duration, Duration, Duration)> {
    let (head, idle, body, args) = windows();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    Ok((pair(&args).await?, head, idle, body))
}

/// Sends `start`, then a byte whenever the server was quiet for `every`; what came until the server closed, and when.
async fn drip(address: SocketAddr, start: &str, every: Duration) -> anyhow::Result<(Vec<u8>, Duration)> {
    let opened = Instant::now();
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(start.as_bytes()).await?;
    let mut came = Vec::new();
    let dripping = async {
        loop {
            match timeout(every, stream.read_buf(&mut came)).await {
                Ok(Ok(0) | Err(_)) => break,
                Ok(Ok(_)) => {}
                Err(_) => {
                    // Closed meanwhile: the next read says so.
                    let _ = stream.write_all(b"x").await;
                }
            }
        }
    };
    timeout(HANG_TIMEOUT * 2, dripping).await.context("never closed")?;
    Ok((came, opened.elapsed()))
}

#[tokio::test]
async fn a_head_has_its_time_in_total_and_a_byte_now_and_then_does_not_extend_it() -> anyhow::Result<()> {
    let (cluster, head, _, _) = fixture().await?;
    for (listener, address) in listeners(&cluster)? {
        for start in ["GET /livez HTTP/1.1\r\nhost: x\r\nslow: ", "G", "GET /"] {
            let (came, after) = drip(address, start, Duration::from_millis(300)).await?;
            let answers = parse(&came)?;
            let [answer] = answers.as_slice() else { panic!("{listener} {start:?}: {answers:?}") };
            assert_eq!(answer.status, 408, "{listener} {start:?}");
            assert!(answer.is_problem(), "{listener} {start:?}");
            assert!(after >= head && after < head + Duration::from_secs(15), "{listener} {start:?}: {after:?}");
        }
        let (came, after) = drip(address, "", HANG_TIMEOUT).await?;
        assert!(came.is_empty() && after >= head, "{listener}: nothing was asked, after {after:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_second_head_on_a_connection_has_the_same_time() -> anyhow::Result<()> {
    let (cluster, head, _, _) = fixture().await?;
    for (listener, address) in listeners(&cluster)? {
        let start = "GET /livez HTTP/1.1\r\nhost: x\r\n\r\nGET /livez HTTP/1.1\r\n";
        let (came, after) = drip(address, start, Duration::from_millis(300)).await?;
        let statuses: Vec<u16> = parse(&came)?.iter().map(|answer| answer.status).collect();
        assert_eq!(statuses, [200, 408], "{listener}");
        assert!(after >= head && after < head + Duration::from_secs(15), "{listener}: {after:?}");
    }
    Ok(())
}

#[tokio::test]
async fn an_idle_connection_is_closed_without_a_word_and_not_before_its_time() -> anyhow::Result<()> {
    let (cluster, _, idle, _) = fixture().await?;
    for (listener, address) in listeners(&cluster)? {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await?;
        sleep(idle / 2).await;
        stream.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await?;
        let (mut came, asked) = (Vec::new(), Instant::now());
        timeout(idle + HANG_TIMEOUT, stream.read_to_end(&mut came)).await??;
        let statuses: Vec<u16> = parse(&came)?.iter().map(|answer| answer.status).collect();
        assert_eq!(statuses, [200, 200], "{listener}");
        assert!(asked.elapsed() >= idle.mul_f64(0.9), "{listener}: {:?}", asked.elapsed());
    }
    Ok(())
}

#[tokio::test]
async fn a_body_that_stops_coming_is_not_waited_for() -> anyhow::Result<()> {
    let (cluster, _, _, body) = fixture().await?;
    let [(_, info), _] = listeners(&cluster)?;
    let start =
        "POST /v1/sessions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 900\r\n\r\n{";
    let (came, after) = drip(info, start, HANG_TIMEOUT).await?;
    let answers = parse(&came)?;
    let [answer] = answers.as_slice() else { panic!("{answers:?}") };
    assert!(matches!(answer.status, 400 | 408) && answer.is_problem(), "{answer:?}");
    assert!(after >= body && after < body + Duration::from_secs(20), "{after:?}");
    Ok(())
}

#[tokio::test]
async fn a_long_poll_and_a_slow_download_outlive_the_idle_time() -> anyhow::Result<()> {
    let (cluster, _, idle, _) = fixture().await?;
    let path = crate::content::file(&cluster, "x.bin", 1, 64 << 20)?;
    let id = cluster.publish(&path, &["--quorum", "1"]).await?;
    let details = cluster.details(&id).await?;
    let url = details["locations"][0]["url"].as_str().unwrap();
    let mut answer = cluster.http.get(url).bearer_auth(details["download"]["token"].as_str().unwrap()).send().await?;
    let (begun, mut seen) = (Instant::now(), 0);
    while let Some(chunk) = answer.chunk().await? {
        seen += chunk.len();
        if begun.elapsed() < idle * 2 {
            sleep(Duration::from_millis(50)).await;
        }
    }
    assert_eq!(seen, 64 << 20);
    // Its events are a long poll: the server's heartbeats go on meanwhile, and it is still listed.
    eventually("still listed", Duration::from_secs(10), async || {
        Ok((cluster.server_ids().await?.len() == 1).then_some(()))
    })
    .await
}
