//! A program that asks its own server how it is, for images that have neither a shell nor curl.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Context as _, ensure};

/// For the whole question.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks `/readyz` of the server of this machine that listens on `listen`.
///
/// # Errors
/// When it does not answer within five seconds, or says that it is not ready.
pub async fn run(listen: SocketAddr) -> anyhow::Result<()> {
    let client = reqwest::Client::builder().timeout(PATIENCE).no_proxy().build()?;
    let url = format!("http://{}/readyz", reachable(listen));
    let answer = client.get(&url).send().await.with_context(|| format!("{url} does not answer"))?;
    let status = answer.status();
    ensure!(status.is_success(), "{url} answers {status}: {}", answer.text().await.unwrap_or_default());
    Ok(())
}

/// A server on all addresses also listens on loopback.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

#[cfg(test)]
mod tests {
    use axum::{Router, http::StatusCode, routing::get};

    use super::*;
    use crate::{Shutdown, listen};

    #[tokio::test]
    async fn only_a_server_that_says_it_is_ready_is_healthy() {
        for (status, healthy) in [(StatusCode::OK, true), (StatusCode::SERVICE_UNAVAILABLE, false)] {
            let listener = listen::bind("0.0.0.0:0".parse().unwrap()).await.unwrap();
            let address = listener.local_addr().unwrap();
            let shutdown = Shutdown::new();
            let router = Router::new().route("/readyz", get(move || async move { (status, "the disk is full") }));
            let served = listen::serve(listener, router, listen::Limits::default(), shutdown.clone());
            let asked = async {
                let outcome = run(address).await;
                shutdown.finish();
                outcome
            };
            let (served, asked) = tokio::join!(served, asked);
            served.unwrap();
            assert_eq!(asked.is_ok(), healthy);
            assert!(healthy || asked.unwrap_err().to_string().contains("the disk is full"));
            assert!(run(address).await.is_err(), "nobody listens any more");
        }
    }
}
