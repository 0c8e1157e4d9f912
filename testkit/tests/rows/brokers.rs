//! P5–P7, S9, F6, F13, F14, F23, F24, F26, F28, F29, F31, F44: brokers, clocks and databases on bad days. Whatever happens
//! to them, file servers end with the facts that were committed, and with no others.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use ddm_testkit::{
    cluster::{Cluster, PATIENCE, Plan},
    history::Promise,
    process::{Server, eventually},
    proxy::{Fault, Proxy},
    rabbitmq::RabbitMq,
    window,
};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use lapin::{BasicProperties, Connection, ConnectionProperties, options::BasicPublishOptions};
use reqwest::{Method, StatusCode};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{
    content::file,
    events::{all_know, walk},
    standing::metric,
};

/// How soon a revocation reaches servers that are connected to the info-server, whatever the broker does.
const REVOKED: Duration = Duration::from_secs(2);

/// A broker's port behind a proxy, and the URL that leads there.
async fn behind_proxy(broker: &RabbitMq) -> anyhow::Result<(Proxy, String)> {
    let proxy = Proxy::start().await?;
    proxy.forward_to(SocketAddr::from((Ipv4Addr::LOCALHOST, broker.port())));
    let url = broker.uri().replace(&broker.port().to_string(), &proxy.address().port().to_string());
    Ok((proxy, url))
}

/// Makes tokens for a file, many at once.
async fn grant(cluster: &Cluster, id: &str, count: usize) -> anyhow::Result<Vec<Value>> {
    let one = async || {
        let path = format!("/v1/files/{id}/tokens");
        anyhow::Ok(cluster.request(Method::POST, &path).send().await?.error_for_status()?.json::<Value>().await?)
    };
    stream::iter((0..count).map(|_| one())).buffer_unordered(16).try_collect().await
}

/// How many of the tokens the servers know without asking anybody; not more of them are asked than it takes to see that some
/// are not.
async fn known(cluster: &Cluster, urls: &[String], tokens: &[Value]) -> anyhow::Result<usize> {
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

async fn all_known(cluster: &Cluster, id: &str, tokens: &[Value]) -> anyhow::Result<()> {
    let urls = urls(cluster, id).await?;
    eventually("all tokens are stored everywhere", PATIENCE, async || {
        let found = known(cluster, &urls, tokens).await?;
        // It was stopped while they were asked, and heartbeats need it.
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok((found == urls.len() * tokens.len()).then_some(()))
    })
    .await
}

async fn urls(cluster: &Cluster, id: &str) -> anyhow::Result<Vec<String>> {
    let expected = cluster.servers.len();
    eventually("every server is listed with the file", PATIENCE, async || {
        let details = cluster.get(&format!("/v1/files/{id}?grant=false")).await?;
        let locations = details["locations"].as_array().context("locations")?;
        let urls: Vec<_> = locations.iter().filter_map(|at| at["url"].as_str()).map(str::to_owned).collect();
        Ok((urls.len() == expected).then_some(urls))
    })
    .await
}

async fn revoke(cluster: &Cluster, details: &Value) -> anyhow::Result<()> {
    let path = format!("/v1/tokens/{}", details["download"]["token_id"].as_str().context("an id")?);
    ensure!(cluster.request(Method::DELETE, &path).send().await?.status() == StatusCode::NO_CONTENT);
    Ok(())
}

/// What a server answers to a token, without the bytes: they would wait for slow lines.
async fn status(cluster: &Cluster, url: &str, token: &Value) -> anyhow::Result<StatusCode> {
    Ok(cluster.http.head(url).bearer_auth(token.as_str().context("a token")?).send().await?.status())
}

async fn refused_everywhere(
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

/// What a server says of itself.
async fn ready(cluster: &Cluster, server: &Server) -> anyhow::Result<Value> {
    Ok(cluster.http.get(format!("http://{}/readyz", server.address())).send().await?.json().await?)
}

/// Everybody is connected to the broker.
async fn connected(cluster: &Cluster) -> anyhow::Result<()> {
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
    let broker = RabbitMq::start().await?;
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
    let broker = RabbitMq::start().await?;
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
        refused_everywhere(&cluster, &urls(&cluster, &id).await?, &before, PATIENCE).await.context(blow)?;
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
    let broker = RabbitMq::start().await?;
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
    refused_everywhere(&cluster, &urls, &revoked, PATIENCE).await?;
    for n in 0..2 {
        assert!(walk(&cluster.path(&format!("file-server-{n}")), &id)?, "a forged deletion counted");
    }
    eventually("what nobody can read is among the dead letters", PATIENCE, async || {
        let queues = broker.ctl(&["list_queues", "name", "messages"]).await?;
        let dead = queues.lines().find_map(|line| line.strip_prefix("ddm.dead")).context("the dead letters")?;
        Ok((dead.trim().parse::<u64>()? >= 6).then_some(()))
    })
    .await
}

#[tokio::test]
async fn cuts_between_delivery_and_acknowledgement_lose_and_repeat_nothing_in_effect() -> anyhow::Result<()> {
    let broker = RabbitMq::start().await?;
    let (proxy, url) = behind_proxy(&broker).await?;
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

#[tokio::test]
async fn an_info_server_cut_off_from_the_broker_grants_on_and_its_events_arrive() -> anyhow::Result<()> {
    let broker = RabbitMq::start().await?;
    let (proxy, url) = behind_proxy(&broker).await?;
    let plan = Plan { amqp: Some(url), file_server_amqp: Some(broker.uri()), ..Plan::zones(&["eu", "us"]) };
    let cluster = Cluster::start(&plan).await?;
    let id = cluster.publish(&file(&cluster, "x.bin", 26, 1000)?, &[]).await?;
    connected(&cluster).await?;
    proxy.spoil(Fault::Refuse);
    let tokens = grant(&cluster, &id, 100).await?;
    let revoked = cluster.details(&id).await?;
    revoke(&cluster, &revoked).await?;
    // The log has what the broker does not bring.
    all_known(&cluster, &id, &tokens).await?;
    // Others may take their time: what is told of all is not.
    let late = cluster.details(&id).await?;
    let urls = urls(&cluster, &id).await?;
    refused_everywhere(&cluster, &urls, &revoked, PATIENCE).await?;
    revoke(&cluster, &late).await?;
    refused_everywhere(&cluster, &urls, &late, REVOKED).await?;
    tokio::time::sleep(window(Duration::from_secs(2), Duration::from_secs(60))).await;
    proxy.spoil(Fault::None);
    connected(&cluster).await
}

#[tokio::test]
async fn a_token_revoked_while_its_servers_are_cut_off_from_the_broker_ends_there_too() -> anyhow::Result<()> {
    let broker = RabbitMq::start().await?;
    let (proxy, url) = behind_proxy(&broker).await?;
    let plan =
        Plan { amqp: Some(broker.uri()), file_server_amqp: Some(url), proxied: true, ..Plan::zones(&["eu", "us"]) };
    let cluster = Cluster::start(&plan).await?;
    let id = cluster.publish(&file(&cluster, "x.bin", 27, 32 << 20)?, &[]).await?;
    let details = cluster.details(&id).await?;
    all_know(&cluster, &details).await?;
    for server in &cluster.servers {
        server.proxy.as_ref().context("a proxy")?.limit(Some(1 << 20));
    }
    let urls = urls(&cluster, &id).await?;
    let token = details["download"]["token"].as_str().context("a token")?;
    let mut running = cluster.http.get(&urls[0]).bearer_auth(token).send().await?;
    running.chunk().await?.context("a first part")?;
    proxy.spoil(Fault::Refuse);
    revoke(&cluster, &details).await?;
    refused_everywhere(&cluster, &urls, &details, REVOKED).await?;
    let cut = loop {
        match running.chunk().await {
            Ok(Some(_)) => {}
            Ok(None) => break false,
            Err(_) => break true,
        }
    };
    assert!(cut, "the running body went on to its end");
    Ok(())
}

#[tokio::test]
async fn a_server_that_has_just_started_hears_of_a_revocation_although_the_broker_is_away() -> anyhow::Result<()> {
    let broker = RabbitMq::start().await?;
    let (proxy, url) = behind_proxy(&broker).await?;
    let plan = Plan { amqp: Some(broker.uri()), file_server_amqp: Some(url), ..Plan::zones(&["eu", "us"]) };
    let cluster = Cluster::start(&plan).await?;
    let id = cluster.publish(&file(&cluster, "x.bin", 29, 1000)?, &[]).await?;
    let details = cluster.details(&id).await?;
    all_know(&cluster, &details).await?;
    let urls = urls(&cluster, &id).await?;
    proxy.spoil(Fault::Refuse);
    revoke(&cluster, &details).await?;
    refused_everywhere(&cluster, &urls, &details, REVOKED).await
}

#[tokio::test]
async fn known_tokens_are_honoured_without_broker_and_info_server() -> anyhow::Result<()> {
    let broker = RabbitMq::start().await?;
    let mut cluster = Cluster::start(&Plan { amqp: Some(broker.uri()), ..Plan::zones(&["eu", "us"]) }).await?;
    let id = cluster.publish(&file(&cluster, "x.bin", 28, 1000)?, &[]).await?;
    let details = cluster.details(&id).await?;
    all_know(&cluster, &details).await?;
    let urls = urls(&cluster, &id).await?;
    broker.kill().await?;
    cluster.info.take().context("an info-server")?.kill().await?;
    let until = Instant::now() + window(Duration::from_secs(5), Duration::from_secs(60));
    let mut asked = 0;
    while Instant::now() < until || asked < 100 {
        for url in &urls {
            assert_eq!(status(&cluster, url, &details["download"]["token"]).await?, StatusCode::OK, "request {asked}");
            asked += 1;
        }
    }
    // A server that starts now, alone, knows it too.
    cluster.take_server(0)?.kill().await?;
    cluster.restart_server(0).await?;
    for url in &urls {
        assert_eq!(status(&cluster, url, &details["download"]["token"]).await?, StatusCode::OK);
    }
    Ok(())
}

#[tokio::test]
async fn a_server_that_was_away_too_long_comes_back_in_step() -> anyhow::Result<()> {
    let broker = RabbitMq::start().await?;
    broker.ctl(&["set_policy", "short", "^ddm\\.server\\.", r#"{"max-length":20}"#, "--apply-to", "queues"]).await?;
    let args = vec!["--event-retention".to_owned(), "2s".to_owned()];
    let plan = Plan { amqp: Some(broker.uri()), info_args: args, ..Plan::zones(&["eu", "us"]) };
    let mut cluster = Cluster::start(&plan).await?;
    let kept = cluster.publish(&file(&cluster, "kept.bin", 29, 1000)?, &[]).await?;
    let gone = cluster.publish(&file(&cluster, "gone.bin", 30, 1000)?, &[]).await?;
    let details = cluster.details(&kept).await?;
    all_know(&cluster, &details).await?;
    let urls = urls(&cluster, &kept).await?;
    cluster.take_server(1)?.kill().await?;
    assert!(cluster.run_client(&["remove", &gone]).await?.status.success());
    revoke(&cluster, &details).await?;
    for _ in 0..60 {
        grant(&cluster, &kept, 1).await?;
    }
    let queue = format!("ddm.server.{}", cluster.servers[1].id);
    let bounded = async || {
        let queues = broker.ctl(&["list_queues", "name", "messages"]).await?;
        let waiting = queues.lines().find_map(|line| line.strip_prefix(&queue)).context("its queue")?;
        Ok((waiting.trim().parse::<u64>()? <= 20).then_some(()))
    };
    eventually("the queue is bounded", PATIENCE, bounded).await?;
    // Longer than anything is remembered for it.
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(walk(&cluster.path("file-server-1"), &gone)?);
    cluster.restart_server(1).await?;
    refused_everywhere(&cluster, &urls, &details, Duration::from_secs(60)).await?;
    eventually("what was deleted meanwhile is gone", Duration::from_secs(60), async || {
        Ok((!walk(&cluster.path("file-server-1"), &gone)?).then_some(()))
    })
    .await?;
    let tokens = grant(&cluster, &kept, 5).await?;
    all_known(&cluster, &kept, &tokens).await?;
    assert!(cluster.servers[1].process.as_ref().context("a process")?.log()?.contains("took the present state"));
    Ok(())
}

#[tokio::test]
async fn a_file_that_a_restored_catalogue_does_not_know_is_kept_and_not_served() -> anyhow::Result<()> {
    let broker = RabbitMq::start().await?;
    let mut cluster = Cluster::start(&Plan { amqp: Some(broker.uri()), ..Plan::zones(&["eu", "us"]) }).await?;
    cluster.excuse(Promise::NothingLost, "the catalogue is put back to before a file was published");
    let old = cluster.publish(&file(&cluster, "old.bin", 31, 1000)?, &[]).await?;
    let (database, backup) = (cluster.path("info-server/catalogue.sqlite"), cluster.path("backup"));
    assert!(cluster.info.take().context("an info-server")?.stop().await?.success());
    std::fs::copy(&database, &backup)?;
    cluster.restart_info().await?;
    let new = cluster.publish(&file(&cluster, "new.bin", 32, 1000)?, &[]).await?;
    let granted = cluster.details(&new).await?;
    all_know(&cluster, &granted).await?;
    let urls = urls(&cluster, &new).await?;

    assert!(cluster.info.take().context("an info-server")?.stop().await?.success());
    std::fs::copy(&backup, &database)?;
    cluster.restart_info().await?;
    for n in 0..2 {
        eventually("the file is set aside", Duration::from_secs(60), async || {
            Ok((metric(&cluster, n, "unknown_files").await? == 1).then_some(()))
        })
        .await?;
        assert!(walk(&cluster.path(&format!("file-server-{n}")), &new)?, "an unknown file was dropped");
    }
    for url in &urls {
        assert_ne!(status(&cluster, url, &granted["download"]["token"]).await?, StatusCode::OK);
    }
    // The new life of the catalogue counts.
    let tokens = grant(&cluster, &old, 5).await?;
    all_known(&cluster, &old, &tokens).await
}

#[tokio::test]
async fn a_copied_identity_is_refused_and_serves_nothing() -> anyhow::Result<()> {
    let cluster = Cluster::start(&Plan::zones(&["eu", "eu"])).await?;
    let id = cluster.publish(&file(&cluster, "x.bin", 33, 1000)?, &[]).await?;
    let details = cluster.details(&id).await?;
    all_know(&cluster, &details).await?;
    let copy = cluster.path("copy");
    let copied =
        tokio::process::Command::new("cp").arg("-r").arg(cluster.path("file-server-0")).arg(&copy).status().await?;
    assert!(copied.success());
    let copy = copy.display().to_string();
    let args = ["--data", &copy, "--listen", "127.0.0.1:0", "--zone", "eu", "--info", cluster.info_url()];
    let second = Server::start("ddm-file-server", &args, &cluster.path("copy.log")).await?;
    let told = async || {
        let answer = cluster.http.get(format!("http://{}/readyz", second.address())).send().await?;
        Ok((answer.status() == StatusCode::SERVICE_UNAVAILABLE).then_some(()))
    };
    eventually("it says that it is not ready", PATIENCE, told).await?;
    let own = format!("http://{}/v1/files/{id}/content", second.address());
    assert_eq!(status(&cluster, &own, &details["download"]["token"]).await?, StatusCode::SERVICE_UNAVAILABLE);
    assert!(second.log()?.contains("another live process uses the identity"));
    for url in urls(&cluster, &id).await? {
        assert_eq!(status(&cluster, &url, &details["download"]["token"]).await?, StatusCode::OK, "the first goes on");
    }
    Ok(())
}

/// `clock` stands for an offset as faketime reads it.
async fn on_a_wrong_clock(clock: &str, jump: Option<&str>) -> anyhow::Result<()> {
    let lifetime = Duration::from_secs(12);
    let folder = tempfile::tempdir()?;
    let offset = folder.path().join("offset");
    std::fs::write(&offset, clock)?;
    let library = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";
    ensure!(std::path::Path::new(library).exists(), "this row needs faketime: apt-get install faketime");
    let offset_path = offset.display().to_string();
    let env = [
        ("LD_PRELOAD", library),
        ("FAKETIME_TIMESTAMP_FILE", &offset_path),
        ("FAKETIME_NO_CACHE", "1"),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ("DONT_FAKE_MONOTONIC", "1"),
    ];
    let plan = Plan {
        info_args: vec!["--download-lifetime".to_owned(), format!("{}s", lifetime.as_secs())],
        file_server_env: env.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
        ..Plan::zones(&["eu", "eu"])
    };
    let cluster = Cluster::start(&plan).await?;
    let id = cluster.publish(&file(&cluster, "x.bin", 34, 1000)?, &[]).await?;
    let urls = urls(&cluster, &id).await?;
    let granted = Instant::now();
    let details = cluster.details(&id).await?;
    if let Some(jump) = jump {
        std::fs::write(&offset, jump)?;
    }
    let token = &details["download"]["token"];
    while granted.elapsed() < lifetime - Duration::from_secs(4) {
        for url in &urls {
            assert_eq!(status(&cluster, url, token).await?, StatusCode::OK, "{clock} {jump:?} {:?}", granted.elapsed());
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    eventually("the token ends", lifetime + Duration::from_secs(10), async || {
        let mut refused = 0;
        for url in &urls {
            refused += usize::from(status(&cluster, url, token).await? == StatusCode::FORBIDDEN);
        }
        Ok((refused == urls.len()).then_some(()))
    })
    .await?;
    assert!(granted.elapsed() >= lifetime, "{clock} {jump:?}: ended after {:?}", granted.elapsed());
    assert!(granted.elapsed() < lifetime + Duration::from_secs(5), "{clock} {jump:?}: lived {:?}", granted.elapsed());
    Ok(())
}

#[tokio::test]
async fn a_wrong_wall_clock_neither_lengthens_nor_shortens_a_tokens_life() -> anyhow::Result<()> {
    let clocks = ["-10m", "+10m", "-1d", "+1d"].map(|clock| on_a_wrong_clock(clock, None));
    futures::future::try_join_all(clocks).await.map(drop)
}

#[tokio::test]
async fn a_wall_clock_that_jumps_changes_no_tokens_life() -> anyhow::Result<()> {
    let jumps = [("+0", "+1d"), ("+0", "-1d"), ("+10m", "-10m")].map(|(from, to)| on_a_wrong_clock(from, Some(to)));
    futures::future::try_join_all(jumps).await.map(drop)
}

#[tokio::test]
async fn every_created_is_synced_before_it_is_said_and_outlives_a_kill() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(&Plan::zones(&["eu", "us"])).await?;
    let id = cluster.publish(&file(&cluster, "x.bin", 35, 1000)?, &[]).await?;
    let info = cluster.info.take().context("an info-server")?;
    let trace = cluster.path("trace");
    let calls = "trace=pwrite64,pwritev,fsync,fdatasync,read,recvfrom,write,writev,sendto,sendmsg";
    let mut strace = tokio::process::Command::new("strace")
        .args(["-f", "-s", "24", "-e", calls, "-o"])
        .arg(&trace)
        .args(["-p", &info.pid()?.as_raw_nonzero().to_string()])
        .stderr(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .context("this row needs strace: apt-get install strace")?;
    let traced = async || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", info.pid()?.as_raw_nonzero()))?;
        Ok((!status.contains("TracerPid:\t0\n")).then_some(()))
    };
    eventually("strace is attached", PATIENCE, traced).await?;
    let mut tokens = Vec::new();
    for _ in 0..20 {
        tokens.extend(grant(&cluster, &id, 1).await?);
        // The relay's own write after one grant is over before the next one comes.
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    info.kill().await?;
    strace.wait().await?;

    let log = std::fs::read_to_string(&trace)?;
    let (mut written, mut synced, mut said) = (false, false, 0);
    for line in log.lines() {
        if line.contains("\"POST /v1/files/") {
            (written, synced) = (false, false);
        } else if line.contains("pwrite64(") || line.contains("pwritev(") {
            written = true;
        } else if (line.contains("fdatasync") || line.contains("fsync")) && line.contains(" = 0") {
            synced |= written;
        } else if line.contains("\"HTTP/1.1 201") {
            assert!(synced, "201 was said before a sync, answer {said}:\n{log}");
            said += 1;
        }
    }
    assert_eq!(said, 20, "{log}");
    cluster.restart_info().await?;
    for token in &tokens {
        let path = format!("/v1/tokens/{}", token["token_id"].as_str().context("an id")?);
        assert_eq!(cluster.request(Method::DELETE, &path).send().await?.status(), StatusCode::NO_CONTENT);
    }
    Ok(())
}

#[tokio::test]
async fn a_stopped_server_is_gone_at_once_and_a_killed_one_after_its_lease() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(&Plan::zones(&["eu", "us"])).await?;
    let (stopped, killed) = (cluster.servers[0].id.clone(), cluster.servers[1].id.clone());
    assert!(cluster.take_server(0)?.stop().await?.success());
    assert_eq!(cluster.server_ids().await?, std::slice::from_ref(&killed), "{stopped} said goodbye");
    cluster.take_server(1)?.kill().await?;
    assert_eq!(cluster.server_ids().await?, [killed], "nobody knows yet");
    eventually("its lease has ended", PATIENCE, async || Ok(cluster.server_ids().await?.is_empty().then_some(())))
        .await?;
    Ok(())
}
