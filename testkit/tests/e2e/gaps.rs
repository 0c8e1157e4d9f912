//! Queues with a gap, while nothing can fill it.

use anyhow::Context as _;
use ddm_testkit::{
    cluster::{Cluster, Plan, STEP_TIMEOUT},
    process::eventually,
    rabbitmq::VirtualHost,
};
use reqwest::StatusCode;

use crate::{
    brokers::{all_known, connected, grant, revoke, status},
    content::file,
};

/// Messages of a queue count although a gap stands before them and nothing can fill the gap.
#[tokio::test]
async fn a_revocation_behind_a_gap_counts_at_once_while_the_info_server_is_away() -> anyhow::Result<()> {
    let broker = VirtualHost::new().await?;
    let mut cluster = Cluster::start(&Plan { amqp: Some(broker.uri()), ..Plan::zones(&["eu", "us"]) }).await?;
    let id = cluster.publish(&file(&cluster, "x.bin", 26, 1000)?, &[]).await?;
    connected(&cluster).await?;
    let revoked = cluster.details(&id).await?;
    let known = grant(&cluster, &id, 1).await?;
    all_known(&cluster, &id, &known).await?;
    let own = format!("ddm.server.{}", cluster.servers[0].id);
    let locations = revoked["locations"].as_array().context("locations")?;
    let location = locations.iter().find(|location| location["server"] == cluster.servers[0].id.as_str());
    let url = location.and_then(|location| location["url"].as_str()).context("a URL")?.to_owned();
    assert_eq!(status(&cluster, &url, &revoked["download"]["token"]).await?, StatusCode::OK);
    cluster.servers[0].process.take().context("a process")?.stop().await?;
    grant(&cluster, &id, 1).await?;
    // What was granted now is missing from the queue.
    eventually("it is in the queue", STEP_TIMEOUT, async || {
        let listed = broker.ctl(&["list_queues", "--quiet", "name", "messages"]).await?;
        Ok(listed.lines().any(|line| line.starts_with(&own) && !line.ends_with("\t0")).then_some(()))
    })
    .await?;
    broker.ctl(&["purge_queue", &own]).await?;
    let later = grant(&cluster, &id, 1).await?;
    revoke(&cluster, &revoked).await?;
    // The other server has it, so it is in the queue of this one, too.
    let other = locations.iter().find(|location| location["server"] == cluster.servers[1].id.as_str());
    let other = other.and_then(|location| location["url"].as_str()).context("a URL")?;
    eventually("the other server obeys it", STEP_TIMEOUT, async || {
        let answer = status(&cluster, other, &revoked["download"]["token"]).await?;
        Ok((answer == StatusCode::FORBIDDEN).then_some(()))
    })
    .await?;
    // It may have heard so by HTTP.
    eventually("all events are published", STEP_TIMEOUT, async || {
        Ok((cluster.get("/readyz").await?["events_waiting"] == 0).then_some(()))
    })
    .await?;
    cluster.info.take().context("an info-server")?.kill().await?;
    cluster.restart_server(0).await?;
    eventually("the revocation is obeyed", STEP_TIMEOUT, async || {
        let answer = status(&cluster, &url, &revoked["download"]["token"]).await;
        Ok(answer.ok().filter(|status| *status == StatusCode::FORBIDDEN))
    })
    .await?;
    eventually("the grant behind the gap counts", STEP_TIMEOUT, async || {
        Ok(status(&cluster, &url, &later[0]["token"]).await.ok().filter(|status| *status == StatusCode::OK))
    })
    .await?;
    Ok(())
}
