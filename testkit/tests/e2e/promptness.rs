//! P5, P7, F13, F14: how soon file servers have the facts. The numbers are the promised ones.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use ddm_testkit::{
    cluster::{Cluster, Plan},
    process::eventually,
    rabbitmq::{RabbitMq, VirtualHost},
    window,
};
use reqwest::StatusCode;
use serde_json::Value;

use crate::{
    brokers::{behind_proxy, connected, grant, known, refused_everywhere, revoke, status, urls},
    content::file,
};

/// P5: time limit for a grant to be stored at every holder.
const GRANT_LIMIT: Duration = Duration::from_secs(1);
/// P5: the same after the broker is back.
const RECONNECT_LIMIT: Duration = Duration::from_secs(5);
/// P7: time limit for a revocation to reach a server that is connected.
const REVOCATION_LIMIT: Duration = Duration::from_secs(2);
/// P7: the same for a server that lacked the broker, the info-server or both, once it has either again.
const DEGRADED_REVOCATION_LIMIT: Duration = Duration::from_secs(60);

/// Counts the tokens that are not stored everywhere at a given moment, and all.
async fn missing(cluster: &Cluster, urls: &[String], tokens: &[Value], at: Instant) -> anyhow::Result<usize> {
    tokio::time::sleep_until(at.into()).await;
    Ok(urls.len() * tokens.len() - known(cluster, urls, tokens).await?)
}

#[tokio::test]
async fn a_grant_is_stored_at_every_holder_within_a_second() -> anyhow::Result<()> {
    let broker = VirtualHost::new().await?;
    let cluster = Cluster::start(&Plan { amqp: Some(broker.uri()), ..Plan::zones(&["eu", "us"]) }).await?;
    let id = cluster.publish(&file(&cluster, "x.bin", 41, 1000)?, &[]).await?;
    connected(&cluster).await?;
    let urls = urls(&cluster, &id).await?;
    for round in 0..5 {
        let tokens = grant(&cluster, &id, 20).await?;
        let granted = Instant::now();
        assert_eq!(missing(&cluster, &urls, &tokens, granted + GRANT_LIMIT).await?, 0, "round {round}");
        // It was stopped while they were asked.
        connected(&cluster).await?;
    }
    Ok(())
}

#[tokio::test]
async fn what_was_granted_without_a_broker_is_stored_five_seconds_after_it_is_back() -> anyhow::Result<()> {
    let broker = RabbitMq::start().await?;
    let cluster = Cluster::start(&Plan { amqp: Some(broker.uri()), ..Plan::zones(&["eu", "us"]) }).await?;
    let id = cluster.publish(&file(&cluster, "x.bin", 42, 1000)?, &[]).await?;
    connected(&cluster).await?;
    // What a kill does to a young queue is another row's.
    broker.sync().await?;
    let urls = urls(&cluster, &id).await?;
    broker.kill().await?;
    let tokens = grant(&cluster, &id, 50).await?;
    // Longer than the time between tries can grow.
    tokio::time::sleep(window(Duration::from_secs(5), Duration::from_secs(60))).await;
    broker.restart().await?;
    let back = Instant::now();
    assert_eq!(missing(&cluster, &urls, &tokens, back + RECONNECT_LIMIT).await?, 0);
    Ok(())
}

#[tokio::test]
async fn a_server_cut_off_from_everybody_ends_tokens_at_their_time_and_learns_of_revocations_when_it_is_back()
-> anyhow::Result<()> {
    let broker = VirtualHost::new().await?;
    let (line, url) = behind_proxy(&broker.uri()).await?;
    let lifetime = Duration::from_secs(40);
    let plan = Plan {
        amqp: Some(broker.uri()),
        file_server_amqp: Some(url),
        info_proxied: true,
        info_args: vec!["--download-lifetime".to_owned(), format!("{}s", lifetime.as_secs())],
        ..Plan::zones(&["eu", "us"])
    };
    let cluster = Cluster::start(&plan).await?;
    let id = cluster.publish(&file(&cluster, "x.bin", 43, 1000)?, &[]).await?;
    connected(&cluster).await?;
    let urls = urls(&cluster, &id).await?;
    let up = cluster.info_proxy.as_ref().context("a proxy")?;
    let cut = |off: bool| {
        up.cut(off);
        line.cut(off);
    };
    let (revoked, granted) = (cluster.details(&id).await?, Instant::now());
    let honoured = async |details: &Value| {
        let mut honoured = 0;
        for url in &urls {
            honoured += usize::from(status(&cluster, url, &details["download"]["token"]).await? == StatusCode::OK);
        }
        anyhow::Ok(honoured)
    };
    eventually("both know it", GRANT_LIMIT, async || Ok((honoured(&revoked).await? == 2).then_some(()))).await?;
    cut(true);
    revoke(&cluster, &revoked).await?;
    tokio::time::sleep(window(Duration::from_secs(8), DEGRADED_REVOCATION_LIMIT / 4)).await;
    assert_eq!(honoured(&revoked).await?, 2, "the revocation could not reach them");
    cut(false);
    let back = Instant::now();
    refused_everywhere(&cluster, &urls, &revoked, DEGRADED_REVOCATION_LIMIT).await?;
    println!("refused {:?} after they were back", back.elapsed());
    connected(&cluster).await?;

    // Once more, and no server comes back: the token's own end is enough.
    let (expired, granted) = (cluster.details(&id).await?, granted.max(Instant::now()));
    eventually("both know it", GRANT_LIMIT, async || Ok((honoured(&expired).await? == 2).then_some(()))).await?;
    cut(true);
    revoke(&cluster, &expired).await?;
    refused_everywhere(&cluster, &urls, &expired, lifetime + REVOCATION_LIMIT).await?;
    assert!(granted.elapsed() <= lifetime + REVOCATION_LIMIT, "{:?}", granted.elapsed());
    cut(false);
    Ok(())
}

/// Bounds of the queue of a server that is away, without a policy of the broker's operator; `brokers` shows such a bound at work.
#[tokio::test]
async fn the_queue_of_a_server_has_bounds_of_its_own() -> anyhow::Result<()> {
    let broker = VirtualHost::new().await?;
    let cluster = Cluster::start(&Plan { amqp: Some(broker.uri()), ..Plan::zones(&["eu"]) }).await?;
    connected(&cluster).await?;
    let queue = format!("ddm.server.{}", cluster.servers[0].id);
    let queues = broker.ctl(&["list_queues", "name", "durable", "arguments"]).await?;
    let own = queues.lines().find(|line| line.contains(&queue)).context("its queue")?;
    for bound in [
        r#"{"x-max-length",100000}"#,
        r#"{"x-max-length-bytes",268435456}"#,
        r#"{"x-overflow","drop-head"}"#,
        r#"{"x-expires",691200000}"#,
        r#"{"x-queue-type","quorum"}"#,
    ] {
        assert!(own.contains(bound), "{bound}: {own}");
    }
    Ok(())
}
