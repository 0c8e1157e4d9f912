//! S6, P5: facts reach the file servers through a real RabbitMQ node, whatever happens to it.
//!
//! A token counts as known to a file server when it is honoured while the info-server is stopped: nobody can be asked.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use ddm_testkit::{
    cluster::{Cluster, Plan, STEP_TIMEOUT},
    process::eventually,
    rabbitmq::{RabbitMq, VirtualHost},
};
use futures::StreamExt as _;
use lapin::{
    Connection, ConnectionProperties,
    message::Delivery,
    options::{BasicConsumeOptions, QueueBindOptions, QueueDeclareOptions},
    types::FieldTable,
};
use reqwest::{Method, StatusCode};
use rustix::process::Signal;
use serde_json::Value;

use crate::content::file;

/// A queue of the test's own on everything that is published.
pub(crate) struct Spy(lapin::Consumer, Connection);

impl Spy {
    pub(crate) async fn new(uri: &str) -> anyhow::Result<Self> {
        let connection = Connection::connect(uri, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        let options = QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
        channel.queue_declare("spy".into(), options, FieldTable::default()).await?;
        let bind = QueueBindOptions::default();
        channel.queue_bind("spy".into(), "ddm.events".into(), "#".into(), bind, FieldTable::default()).await?;
        let consume = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
        let consumer = channel.basic_consume("spy".into(), "spy".into(), consume, FieldTable::default()).await?;
        Ok(Self(consumer, connection))
    }

    pub(crate) async fn next(&mut self) -> anyhow::Result<Delivery> {
        let next = tokio::time::timeout(STEP_TIMEOUT, self.0.next()).await.context("no message")?;
        Ok(next.context("the queue is gone")??)
    }
}

/// Counts the holders of a file that accept a token while the info-server is stopped.
pub(crate) async fn known_without_asking(cluster: &Cluster, details: &Value) -> anyhow::Result<usize> {
    let info = cluster.info.as_ref().context("an info-server")?;
    info.signal(Signal::STOP)?;
    let mut known = 0;
    for location in details["locations"].as_array().context("locations")? {
        let url = location["url"].as_str().context("a url")?;
        let token = details["download"]["token"].as_str().context("a token")?;
        let answer = cluster.http.get(url).bearer_auth(token).send().await?;
        known += usize::from(answer.status() == StatusCode::OK);
    }
    info.signal(Signal::CONT)?;
    Ok(known)
}

pub(crate) async fn all_know(cluster: &Cluster, details: &Value) -> anyhow::Result<()> {
    let holders = details["locations"].as_array().context("locations")?.len();
    eventually("every holder knows the token", STEP_TIMEOUT, async || {
        let known = known_without_asking(cluster, details).await?;
        // It was stopped while they were asked, and its relay and heartbeats need it.
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok((known == holders).then_some(()))
    })
    .await
}

#[tokio::test]
async fn a_details_query_is_one_persistent_message_per_zone_and_every_holder_stores_the_token() -> anyhow::Result<()> {
    let broker = VirtualHost::new().await?;
    let plan = Plan { amqp: Some(broker.uri()), ..Plan::zones(&["eu", "eu", "us"]) };
    let cluster = Cluster::start(&plan).await?;
    let id = cluster.publish(&file(&cluster, "x.bin", 1, 1000)?, &["--quorum", "3"]).await?;
    let mut spy = Spy::new(&broker.uri()).await?;
    let details = cluster.details(&id).await?;
    let mut keys = Vec::new();
    while keys.len() < 2 {
        let message = spy.next().await?;
        assert_eq!(*message.properties.delivery_mode(), Some(2), "not persistent");
        let body: Value = serde_json::from_slice(&message.data)?;
        // What publishing granted may still be on its way.
        if body["grants"][0]["token_id"] != details["download"]["token_id"] {
            continue;
        }
        assert_eq!((&body["schema"], &body["type"]), (&1.into(), &"token.granted".into()));
        assert_eq!(body["grants"].as_array().map(Vec::len), Some(1));
        let text = String::from_utf8(message.data)?;
        assert!(!text.contains(details["download"]["token"].as_str().unwrap()), "the token itself travels");
        keys.push(message.routing_key.to_string());
    }
    keys.sort();
    assert_eq!(keys, ["token.granted.eu", "token.granted.us"]);
    all_know(&cluster, &details).await?;

    // Used at once, a token is never refused because its message is still on its way.
    for _ in 0..30 {
        let details = cluster.details(&id).await?;
        for location in details["locations"].as_array().unwrap() {
            let token = details["download"]["token"].as_str().unwrap();
            let answer = cluster.http.get(location["url"].as_str().unwrap()).bearer_auth(token).send().await?;
            assert_eq!(answer.status(), StatusCode::OK, "{location}");
        }
    }
    drop(spy.1);
    Ok(())
}

#[tokio::test]
async fn a_killed_broker_delays_events_and_loses_none() -> anyhow::Result<()> {
    let broker = RabbitMq::start().await?;
    let plan = Plan { amqp: Some(broker.uri()), ..Plan::zones(&["eu", "us"]) };
    let cluster = Cluster::start(&plan).await?;
    let id = cluster.publish(&file(&cluster, "x.bin", 2, 1000)?, &[]).await?;
    let before = cluster.details(&id).await?;
    all_know(&cluster, &before).await?;

    broker.kill().await?;
    // Granting waits for no broker, and what is known goes on being honoured.
    let asked = Instant::now();
    let mut while_down = Vec::new();
    for _ in 0..20 {
        while_down.push(cluster.details(&id).await?);
    }
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    assert_eq!(known_without_asking(&cluster, &before).await?, 2);
    let output = cluster.run_client(&["-o", "got.bin", &id]).await?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    broker.restart().await?;
    for details in &while_down {
        all_know(&cluster, details).await?;
    }
    eventually("both servers have their durable queues again", STEP_TIMEOUT, async || {
        let queues = broker.ctl(&["list_queues", "name", "durable", "type"]).await?;
        let own: Vec<_> = queues.lines().filter(|line| line.contains("ddm.server.")).collect();
        Ok((own.len() == 2 && own.iter().all(|line| line.contains("true") && line.contains("quorum"))).then_some(()))
    })
    .await
}

#[tokio::test]
async fn a_revoked_token_is_refused_everywhere_and_its_running_body_is_cut() -> anyhow::Result<()> {
    let broker = VirtualHost::new().await?;
    let plan = Plan { amqp: Some(broker.uri()), proxied: true, ..Plan::zones(&["eu", "us"]) };
    let cluster = Cluster::start(&plan).await?;
    let id = cluster.publish(&file(&cluster, "x.bin", 3, 32 << 20)?, &[]).await?;
    let details = cluster.details(&id).await?;
    let token = details["download"]["token"].as_str().context("a token")?;
    let url = |n: usize| details["locations"][n]["url"].as_str().unwrap().to_owned();
    for server in &cluster.servers {
        server.proxy.as_ref().unwrap().limit(Some(1 << 20));
    }
    let mut running = cluster.http.get(url(0)).bearer_auth(token).send().await?;
    assert_eq!(running.status(), StatusCode::OK);
    running.chunk().await?.context("a first part")?;
    let path = format!("/v1/tokens/{}", details["download"]["token_id"].as_str().context("an id")?);
    let revoked = Instant::now();
    assert_eq!(cluster.request(Method::DELETE, &path).send().await?.status(), StatusCode::NO_CONTENT);
    eventually("both refuse it", Duration::from_secs(2), async || {
        let mut refused = 0;
        for n in 0..2 {
            // A request that was let in just before may be cut even before its head is sent.
            let answer = cluster.http.get(url(n)).bearer_auth(token).send().await;
            refused += usize::from(answer.is_ok_and(|answer| answer.status() == StatusCode::FORBIDDEN));
        }
        Ok((refused == 2).then_some(()))
    })
    .await?;
    for server in &cluster.servers {
        server.proxy.as_ref().unwrap().limit(None);
    }
    let mut rest = 0;
    let cut = loop {
        match running.chunk().await {
            Ok(Some(part)) => rest += part.len(),
            Ok(None) => break false,
            Err(_) => break true,
        }
    };
    assert!(cut && rest < 24 << 20, "the body went on for {rest} bytes, {:?} after the revocation", revoked.elapsed());
    Ok(())
}

#[tokio::test]
async fn a_database_put_back_begins_a_new_epoch_in_which_facts_count_again() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(&Plan::zones(&["eu", "us"])).await?;
    let id = cluster.publish(&file(&cluster, "x.bin", 4, 1000)?, &[]).await?;
    let (database, backup) = (cluster.path("info-server/catalogue.sqlite"), cluster.path("backup"));
    assert!(cluster.info.take().context("an info-server")?.stop().await?.success());
    std::fs::copy(&database, &backup)?;
    cluster.restart_info().await?;
    let mut later = cluster.details(&id).await?;
    for _ in 0..10 {
        later = cluster.details(&id).await?;
    }
    all_know(&cluster, &later).await?;

    assert!(cluster.info.take().context("an info-server")?.stop().await?.success());
    std::fs::copy(&backup, &database)?;
    cluster.restart_info().await?;
    // The numbers of these events were given out before; they must count all the same.
    eventually("new grants are heard of again", STEP_TIMEOUT, async || {
        let details = cluster.details(&id).await?;
        tokio::time::sleep(Duration::from_millis(200)).await;
        Ok((known_without_asking(&cluster, &details).await? == 2).then_some(()))
    })
    .await?;
    let granted = cluster.details(&id).await?;
    let token = granted["download"]["token"].as_str().context("a token")?;
    let path = format!("/v1/tokens/{}", granted["download"]["token_id"].as_str().context("an id")?);
    assert_eq!(cluster.request(Method::DELETE, &path).send().await?.status(), StatusCode::NO_CONTENT);
    eventually("the revocation counts", STEP_TIMEOUT, async || {
        let url = granted["locations"][0]["url"].as_str().context("a url")?;
        let answer = cluster.http.get(url).bearer_auth(token).send().await?;
        Ok((answer.status() == StatusCode::FORBIDDEN).then_some(()))
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn a_deleted_file_leaves_every_server_even_one_that_was_away() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(&Plan::zones(&["eu", "us"])).await?;
    let id = cluster.publish(&file(&cluster, "x.bin", 5, 1000)?, &[]).await?;
    let blobs = |cluster: &Cluster, n: usize| walk(&cluster.path(&format!("file-server-{n}")), &id);
    assert!(blobs(&cluster, 0)? && blobs(&cluster, 1)?);
    cluster.take_server(1)?.kill().await?;
    assert!(cluster.run_client(&["remove", &id]).await?.status.success());
    assert_eq!(cluster.get("/v1/files").await?["files"], serde_json::json!([]));
    eventually("the live server has dropped it", STEP_TIMEOUT, async || Ok((!blobs(&cluster, 0)?).then_some(())))
        .await?;
    assert!(blobs(&cluster, 1)?);
    cluster.restart_server(1).await?;
    eventually("the other has dropped it", STEP_TIMEOUT, async || Ok((!blobs(&cluster, 1)?).then_some(()))).await?;
    Ok(())
}

/// Returns true if a file of this name is anywhere below a folder.
pub(crate) fn walk(folder: &std::path::Path, name: &str) -> anyhow::Result<bool> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let below = entry.file_type()?.is_dir() && walk(&entry.path(), name)?;
        if below || entry.file_name() == name {
            return Ok(true);
        }
    }
    Ok(false)
}
