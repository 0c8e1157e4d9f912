//! P5, S9, F6, F31: processes and databases that stop, come back or are copied.

use std::time::Duration;

use anyhow::Context as _;
use ddm_testkit::{
    cluster::{Cluster, Plan, STEP_TIMEOUT},
    history::Promise,
    process::{Server, eventually},
    rabbitmq::VirtualHost,
};
use reqwest::{Method, StatusCode};
use rustix::process::Signal;

use super::fixture::{all_known, grant, refused_everywhere, revoke, status, urls};
use crate::{
    content::file,
    events::{all_know, walk},
    standing::metric,
};

/// Words that the info-server logs about a deleted queue that may have held up others.
const DELETED: &str = "which had no consumer";

#[tokio::test]
async fn a_server_that_was_away_too_long_comes_back_in_step() -> anyhow::Result<()> {
    let broker = VirtualHost::new().await?;
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
        let waiting = queues.lines().find_map(|line| line.strip_prefix(&queue));
        if let Some(waiting) = waiting {
            return Ok((waiting.trim().parse::<u64>()? <= 20).then_some(()));
        }
        // A broker that confirms nothing for seconds, as on a busy machine, looks as if this queue held up the others: nobody reads from it.
        // Then it is deleted, and the log has what it held.
        let log = std::fs::read_to_string(cluster.path("info-server.log"))?;
        Ok(log.lines().any(|line| line.contains(DELETED) && line.contains(&queue)).then_some(()))
    };
    eventually("the queue is bounded", STEP_TIMEOUT, bounded).await?;
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
    assert!(
        cluster.servers[1].process.as_ref().context("a process")?.log()?.contains("snapshot instead of the event log")
    );
    Ok(())
}

#[tokio::test]
async fn a_file_that_a_restored_catalogue_does_not_know_is_kept_and_not_served() -> anyhow::Result<()> {
    let broker = VirtualHost::new().await?;
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
    let first = cluster.servers[0].process.as_ref().context("a file server")?;
    first.signal(Signal::STOP)?;
    let copied =
        tokio::process::Command::new("cp").arg("-r").arg(cluster.path("file-server-0")).arg(&copy).status().await?;
    first.signal(Signal::CONT)?;
    assert!(copied.success());
    let copy = copy.display().to_string();
    let args = ["--data", &copy, "--listen", "127.0.0.1:0", "--zone", "eu", "--info", cluster.info_url()];
    let second = Server::start("ddm-file-server", &args, &cluster.path("copy.log")).await?;
    let told = async || {
        let answer = cluster.http.get(format!("http://{}/readyz", second.address())).send().await?;
        Ok((answer.status() == StatusCode::SERVICE_UNAVAILABLE).then_some(()))
    };
    eventually("it says that it is not ready", STEP_TIMEOUT, told).await?;
    let own = format!("http://{}/v1/files/{id}/content", second.address());
    assert_eq!(status(&cluster, &own, &details["download"]["token"]).await?, StatusCode::SERVICE_UNAVAILABLE);
    assert!(second.log()?.contains("another live process uses the identity"));
    for url in urls(&cluster, &id).await? {
        assert_eq!(status(&cluster, &url, &details["download"]["token"]).await?, StatusCode::OK, "the first goes on");
    }
    Ok(())
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
    eventually("strace is attached", STEP_TIMEOUT, traced).await?;
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
    eventually("its lease has ended", STEP_TIMEOUT, async || Ok(cluster.server_ids().await?.is_empty().then_some(())))
        .await?;
    Ok(())
}
