//! Grants and revocations, and what the servers of a cluster know of them.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use ddm_testkit::{
    cluster::{Cluster, STEP_TIMEOUT},
    process::{Server, eventually},
    proxy::Proxy,
};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use reqwest::{Method, StatusCode};
use rustix::process::Signal;
use serde_json::Value;

/// A broker's port behind a proxy, and the URL that leads there.
pub(crate) async fn behind_proxy(broker: &str) -> anyhow::Result<(Proxy, String)> {
    let (proxy, mut uri) = (Proxy::start().await?, url::Url::parse(broker)?);
    let port = uri.port().context("the broker's port")?;
    proxy.forward_to(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    uri.set_port(Some(proxy.address().port())).ok().context("a URI with a port")?;
    Ok((proxy, uri.to_string()))
}

/// Makes tokens for a file, many at once.
pub(crate) async fn grant(cluster: &Cluster, id: &str, count: usize) -> anyhow::Result<Vec<Value>> {
    let one = async || {
        let path = format!("/v1/files/{id}/tokens");
        anyhow::Ok(cluster.request(Method::POST, &path).send().await?.error_for_status()?.json::<Value>().await?)
    };
    stream::iter((0..count).map(|_| one())).buffer_unordered(16).try_collect().await
}

/// Counts the tokens that the servers accept without a look-up; no more of them are tried than it takes to see that some
/// are not.
pub(crate) async fn known(cluster: &Cluster, urls: &[String], tokens: &[Value]) -> anyhow::Result<usize> {
    let info = cluster.info.as_ref().context("an info-server")?;
    info.signal(Signal::STOP)?;
    let ask = async |token: &Value, url: &String| {
        let token = token["token"].as_str().context("a token")?;
        let answer = cluster.http.head(url).bearer_auth(token).send().await?;
        anyhow::Ok(usize::from(answer.status() == StatusCode::OK))
    };
    let asked = tokens.iter().flat_map(|token| urls.iter().map(move |url| (token, url)));
    let mut answers = std::pin::pin!(stream::iter(asked).map(|(token, url)| ask(token, url)).buffer_unordered(8));
    let mut known = 0;
    let outcome = loop {
        match answers.next().await {
            Some(Ok(0)) | None => break Ok(known),
            Some(Ok(more)) => known += more,
            Some(Err(error)) => break Err(error),
        }
    };
    info.signal(Signal::CONT)?;
    outcome
}

pub(crate) async fn all_known(cluster: &Cluster, id: &str, tokens: &[Value]) -> anyhow::Result<()> {
    let urls = urls(cluster, id).await?;
    eventually("all tokens are stored everywhere", STEP_TIMEOUT, async || {
        let found = known(cluster, &urls, tokens).await?;
        // It was stopped while they were asked, and heartbeats need it.
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok((found == urls.len() * tokens.len()).then_some(()))
    })
    .await
}

pub(crate) async fn urls(cluster: &Cluster, id: &str) -> anyhow::Result<Vec<String>> {
    let expected = cluster.servers.len();
    eventually("every server is listed with the file", STEP_TIMEOUT, async || {
        let details = cluster.get(&format!("/v1/files/{id}?grant=false")).await?;
        let locations = details["locations"].as_array().context("locations")?;
        let urls: Vec<_> = locations.iter().filter_map(|at| at["url"].as_str()).map(str::to_owned).collect();
        Ok((urls.len() == expected).then_some(urls))
    })
    .await
}

pub(crate) async fn revoke(cluster: &Cluster, details: &Value) -> anyhow::Result<()> {
    let path = format!("/v1/tokens/{}", details["download"]["token_id"].as_str().context("an id")?);
    ensure!(cluster.request(Method::DELETE, &path).send().await?.status() == StatusCode::NO_CONTENT);
    Ok(())
}

/// Returns a server's answer to a token, without the bytes: they would wait for slow lines.
pub(crate) async fn status(cluster: &Cluster, url: &str, token: &Value) -> anyhow::Result<StatusCode> {
    Ok(cluster.http.head(url).bearer_auth(token.as_str().context("a token")?).send().await?.status())
}

pub(crate) async fn refused_everywhere(
    cluster: &Cluster,
    urls: &[String],
    details: &Value,
    limit: Duration,
) -> anyhow::Result<()> {
    eventually("the revoked token is refused everywhere", limit, async || {
        for url in urls {
            if status(cluster, url, &details["download"]["token"]).await? != StatusCode::FORBIDDEN {
                return Ok(None);
            }
        }
        Ok(Some(()))
    })
    .await
}

/// Returns a server's readiness document.
pub(super) async fn ready(cluster: &Cluster, server: &Server) -> anyhow::Result<Value> {
    Ok(cluster.http.get(format!("http://{}/readyz", server.address())).send().await?.json().await?)
}

/// Waits until every server is connected to the broker.
pub(crate) async fn connected(cluster: &Cluster) -> anyhow::Result<()> {
    eventually("all are connected to the broker", Duration::from_secs(60), async || {
        for server in cluster.servers.iter().filter_map(|server| server.process.as_ref()) {
            if ready(cluster, server).await?["facts"] != true {
                return Ok(None);
            }
        }
        let info = ready(cluster, cluster.info.as_ref().context("an info-server")?).await?;
        Ok((info["bus"] == "connected" && info["events_waiting"] == 0).then_some(()))
    })
    .await
}
