//! P5, S9, F23, F24, F26, F28, F29: brokers on bad days. Whatever happens to them, file servers end with the facts that were
//! committed, and with no others.

mod clocks;
mod dead_address;
mod fixture;
mod outages;
mod restarts;

use std::time::{Duration, Instant};

use anyhow::Context as _;
use ddm_testkit::{
    cluster::{Cluster, Plan, STEP_TIMEOUT},
    process::eventually,
    proxy::Fault,
    rabbitmq::{RabbitMq, VirtualHost},
};
use lapin::{BasicProperties, Connection, ConnectionProperties, options::BasicPublishOptions};
use rustix::process::Signal;
use serde_json::{Value, json};

pub(crate) use self::fixture::{
    all_known, behind_proxy, connected, grant, known, refused_everywhere, revoke, status, urls,
};
use crate::{content::file, events::walk, standing::metric};

#[tokio::test]
async fn a_thousand_grants_around_a_killed_broker_are_all_stored() -> anyhow::Result<()> {
    let broker = RabbitMq::start().await?;
    let cluster = Cluster::start(&Plan { amqp: Some(broker.uri()), ..Plan::zones(&["eu", "us"]) }).await?;
    let id = cluster.publish(&file(&cluster, "x.bin", 21, 1000)?, &[]).await?;
    connected(&cluster).await?;
    let granting = async { grant(&cluster, &id, 1000).await };
    let killing = async {
        tokio::time::sleep(Duration::from_millis(150)).await;
        broker.kill().await
    };
    let (tokens, killed) = tokio::join!(granting, killing);
    killed?;
    let tokens = tokens?;
    assert_eq!(tokens.len(), 1000);
    broker.restart().await?;
    let back = Instant::now();
    all_known(&cluster, &id, &tokens).await?;
    println!("all stored {:?} after the broker was back", back.elapsed());
    connected(&cluster).await
}

#[tokio::test]
async fn servers_in_step_leave_the_log_alone_while_grants_keep_coming() -> anyhow::Result<()> {
    let broker = VirtualHost::new().await?;
    let cluster = Cluster::start(&Plan { amqp: Some(broker.uri()), ..Plan::zones(&["eu", "us"]) }).await?;
    let id = cluster.publish(&file(&cluster, "x.bin", 23, 1000)?, &[]).await?;
    connected(&cluster).await?;
    all_known(&cluster, &id, &grant(&cluster, &id, 10).await?).await?;
    let read = async || {
        anyhow::Ok([metric(&cluster, 0, "catchups_total").await?, metric(&cluster, 1, "catchups_total").await?])
    };
    let before = read().await?;
    // Several heartbeats, each of which is answered while facts are on their way.
    let (started, mut tokens) = (Instant::now(), Vec::new());
    while started.elapsed() < Duration::from_secs(10) {
        tokens.extend(grant(&cluster, &id, 64).await?);
    }
    assert_eq!(read().await?, before, "{} grants", tokens.len());
    all_known(&cluster, &id, &tokens).await
}

#[tokio::test]
async fn every_order_of_starting_works() -> anyhow::Result<()> {
    let broker = RabbitMq::start().await?;
    let mut cluster = Cluster::start(&Plan { amqp: Some(broker.uri()), ..Plan::zones(&["eu", "eu"]) }).await?;
    let id = cluster.publish(&file(&cluster, "x.bin", 22, 1000)?, &[]).await?;
    for order in ["bif", "bfi", "ibf", "ifb", "fbi", "fib"] {
        for n in 0..2 {
            assert!(cluster.take_server(n)?.stop().await?.success(), "{order}");
        }
        assert!(cluster.info.take().context("an info-server")?.stop().await?.success(), "{order}");
        // In good order: what a kill does to a young queue is another row's.
        broker.ctl(&["stop_app"]).await?;
        broker.kill().await?;
        for what in order.chars() {
            match what {
                'b' => broker.restart().await?,
                'i' => cluster.restart_info().await?,
                _ => {
                    cluster.restart_server(0).await?;
                    cluster.restart_server(1).await?;
                }
            }
        }
        connected(&cluster).await.with_context(|| order.to_owned())?;
        let tokens = grant(&cluster, &id, 3).await?;
        all_known(&cluster, &id, &tokens).await.with_context(|| order.to_owned())?;
    }
    Ok(())
}

#[tokio::test]
async fn closed_connections_and_deleted_queues_are_noticed_and_nothing_is_missed() -> anyhow::Result<()> {
    let broker = VirtualHost::new().await?;
    let cluster = Cluster::start(&Plan { amqp: Some(broker.uri()), ..Plan::zones(&["eu", "us"]) }).await?;
    let id = cluster.publish(&file(&cluster, "x.bin", 23, 1000)?, &[]).await?;
    connected(&cluster).await?;
    for blow in ["connections", "queue", "purge"] {
        let own = format!("ddm.server.{}", cluster.servers[0].id);
        let before = cluster.details(&id).await?;
        match blow {
            "connections" => broker.ctl(&["close_all_connections", "test"]).await?,
            // Ends its consumer too (basic.cancel).
            "queue" => broker.ctl(&["delete_queue", &own]).await?,
            // What was confirmed is gone: a broker that lies.
            _ => {
                let server = cluster.servers[0].process.as_ref().context("a process")?;
                server.signal(Signal::STOP)?;
                grant(&cluster, &id, 5).await?;
                let purged = broker.ctl(&["purge_queue", &own]).await;
                server.signal(Signal::CONT)?;
                purged?
            }
        };
        revoke(&cluster, &before).await?;
        let tokens = grant(&cluster, &id, 50).await?;
        all_known(&cluster, &id, &tokens).await.context(blow)?;
        refused_everywhere(&cluster, &urls(&cluster, &id).await?, &before, STEP_TIMEOUT).await.context(blow)?;
        connected(&cluster).await.context(blow)?;
    }
    for server in &cluster.servers {
        let log = server.process.as_ref().context("a process")?.log()?;
        assert!(log.lines().count() < 100, "{log}");
        assert!(!log.contains("ERROR"), "{log}");
    }
    Ok(())
}

#[tokio::test]
async fn poison_and_replays_change_nothing() -> anyhow::Result<()> {
    let broker = VirtualHost::new().await?;
    let cluster = Cluster::start(&Plan { amqp: Some(broker.uri()), ..Plan::zones(&["eu", "us"]) }).await?;
    let id = cluster.publish(&file(&cluster, "x.bin", 24, 1000)?, &[]).await?;
    connected(&cluster).await?;
    let mut spy = crate::events::Spy::new(&broker.uri()).await?;
    let revoked = cluster.details(&id).await?;
    revoke(&cluster, &revoked).await?;
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push(spy.next().await?);
    }
    let genuine: Value = serde_json::from_slice(&seen[0].data)?;
    let forged = |changes: Value| {
        let mut event = genuine.clone();
        event.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        event.to_string().into_bytes()
    };
    let delete = json!({ "type": "file.deleted", "file": id, "stream": "all" });
    let with = |more: Value| {
        let mut changes = delete.clone();
        changes.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        forged(changes)
    };
    let (prev, seq) = (genuine["seq"].as_u64().unwrap(), genuine["seq"].as_u64().unwrap() + 1_000_000);
    let poison = [
        b"{not json".to_vec(),
        Vec::new(),
        vec![0xff; 15 << 20],
        forged(json!({ "schema": 99 })),
        forged(json!({ "seq": "seven" })),
        forged(json!({ "grants": 7 })),
        // Another life of the catalogue, another server's stream, a number that was given out before.
        with(json!({ "epoch": wire::id::Epoch::new(), "prev": prev, "seq": seq })),
        with(json!({ "stream": "server.fs-other", "prev": prev, "seq": seq })),
        with(json!({ "prev": 0, "seq": 1 })),
    ];
    let connection = Connection::connect(&broker.uri(), ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    let replayed = seen.iter().rev().map(|delivery| delivery.data.clone());
    for body in poison.into_iter().chain(replayed) {
        for key in ["token.granted.eu", "file.deleted.all"] {
            let (options, plain) = (BasicPublishOptions::default(), BasicProperties::default());
            channel.basic_publish("ddm.events".into(), key.into(), options, &body, plain).await?;
        }
    }
    let tokens = grant(&cluster, &id, 20).await?;
    all_known(&cluster, &id, &tokens).await?;
    let urls = urls(&cluster, &id).await?;
    refused_everywhere(&cluster, &urls, &revoked, STEP_TIMEOUT).await?;
    for n in 0..2 {
        assert!(walk(&cluster.path(&format!("file-server-{n}")), &id)?, "a forged deletion counted");
    }
    eventually("what nobody can read is among the dead letters", STEP_TIMEOUT, async || {
        let queues = broker.ctl(&["list_queues", "name", "messages"]).await?;
        let dead = queues.lines().find_map(|line| line.strip_prefix("ddm.dead")).context("the dead letters")?;
        Ok((dead.trim().parse::<u64>()? >= 6).then_some(()))
    })
    .await
}

#[tokio::test]
async fn cuts_between_delivery_and_acknowledgement_lose_and_repeat_nothing_in_effect() -> anyhow::Result<()> {
    let broker = VirtualHost::new().await?;
    let (proxy, url) = behind_proxy(&broker.uri()).await?;
    let plan = Plan { amqp: Some(broker.uri()), file_server_amqp: Some(url), ..Plan::zones(&["eu", "us"]) };
    let cluster = Cluster::start(&plan).await?;
    let id = cluster.publish(&file(&cluster, "x.bin", 25, 1000)?, &[]).await?;
    connected(&cluster).await?;
    let granting = async { grant(&cluster, &id, 400).await };
    let cutting = async {
        for _ in 0..6 {
            proxy.spoil(Fault::Refuse);
            tokio::time::sleep(Duration::from_millis(20)).await;
            proxy.spoil(Fault::None);
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    };
    let (tokens, ()) = tokio::join!(granting, cutting);
    all_known(&cluster, &id, &tokens?).await?;
    connected(&cluster).await
}
