//! The `healthcheck` command: a request for `/readyz` to the own server, for images that have neither a shell nor curl.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Context as _, ensure};

/// Time for the whole request.
const HEALTHCHECK_TIMEOUT: Duration = Duration::from_secs(5);

/// Requests `/readyz` from the server on this machine that listens on `listen`.
///
/// # Errors
/// When the server does not answer within five seconds, or answers that it is not ready.
pub async fn run(listen: SocketAddr) -> anyhow::Result<()> {
    let client = reqwest::Client::builder().timeout(HEALTHCHECK_TIMEOUT).no_proxy().build()?;
    let url = format!("http://{}/readyz", reachable(listen));
    let response = client.get(&url).send().await.with_context(|| format!("{url} does not answer"))?;
    let status = response.status();
    ensure!(status.is_success(), "{url} answers {status}: {}", response.text().await.unwrap_or_default());
    Ok(())
}

/// Returns an address under which the server is reachable from this machine: loopback if it listens on all addresses.
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
    use lifecycle::Shutdown;

    use super::*;
    use crate::{acceptor, limits::Limits};

    #[tokio::test]
    async fn only_a_server_that_answers_ready_is_healthy() {
        for (status, healthy) in [(StatusCode::OK, true), (StatusCode::SERVICE_UNAVAILABLE, false)] {
            let listener = acceptor::bind("0.0.0.0:0".parse().unwrap()).await.unwrap();
            let address = listener.local_addr().unwrap();
            let shutdown = Shutdown::new();
            let router = Router::new().route("/readyz", get(move || async move { (status, "the disk is full") }));
            let served = acceptor::serve(listener, router, Limits::default(), shutdown.clone());
            let asked = async {
                let outcome = run(address).await;
                shutdown.finish();
                outcome
            };
            let (served, asked) = tokio::join!(served, asked);
            served.unwrap();
            assert_eq!(asked.is_ok(), healthy);
            assert!(healthy || asked.unwrap_err().to_string().contains("the disk is full"));
            assert!(run(address).await.is_err(), "no server listens any more");
        }
    }
}
