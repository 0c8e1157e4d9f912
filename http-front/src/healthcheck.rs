//! The `healthcheck` command: a request for `/readyz` to the own server, for images that have neither a shell nor curl.

use std::{
    error::Error,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use anyhow::{anyhow, ensure};
use reqwest::StatusCode;

/// Time for the whole request.
const HEALTHCHECK_TIMEOUT: Duration = Duration::from_secs(5);

/// Requests `/readyz` from the server on this machine that listens on `listen`.
///
/// # Errors
/// When the server does not answer within five seconds, or answers that it is not ready.
pub async fn run(listen: SocketAddr) -> anyhow::Result<()> {
    let client = reqwest::Client::builder().timeout(HEALTHCHECK_TIMEOUT).no_proxy().build()?;
    let address = reachable(listen);
    let answer = client.get(format!("http://{address}/readyz")).send().await;
    let response = answer.map_err(|error| anyhow!("no server answers at {address}: {}", innermost(&error)))?;
    let status = response.status();
    ensure!(
        status.is_success(),
        "the server at {address} is not ready: {}",
        reason(&response.text().await.unwrap_or_default(), status)
    );
    Ok(())
}

/// Returns the cause of an error that says most: the innermost one.
fn innermost(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// Returns the reason in the body of a response: the detail of a problem, or else the text.
fn reason(body: &str, status: StatusCode) -> String {
    let problem: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    let field = |name: &str| problem.get(name).and_then(serde_json::Value::as_str).filter(|text| !text.is_empty());
    match field("detail").or(field("title")) {
        Some(text) => text.to_owned(),
        None if body.is_empty() => format!("it answers {status}"),
        None => body.to_owned(),
    }
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
    use axum::{Router, routing::get};
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
            let error = run(address).await.unwrap_err();
            assert!(error.to_string().contains("no server answers at 127.0.0.1:"), "{error}");
            assert_eq!(error.chain().count(), 1, "{error:?}");
        }
    }
}
