//! F41, F42, P12: the catalogue as a file that is whole, put back elsewhere as a new life, and what becomes of files it never heard of.

use std::{
    os::unix::fs::PermissionsExt as _,
    sync::atomic::{AtomicUsize, Ordering},
};

use anyhow::Context as _;
use ddm_testkit::{
    cluster::{Cluster, Plan, STEP_TIMEOUT},
    history::Promise,
    process::eventually,
};
use futures::future::try_join_all;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::content::{MIB, event, file, names, sha256};

const SINCE: &str = "published after the backup: unknown on purpose";

async fn back_up(cluster: &Cluster, name: &str) -> anyhow::Result<String> {
    let path = cluster.path(name).display().to_string();
    cluster.operate("ddm-info-server", "info-server", &["backup", &path]).await
}

async fn unknown_files(cluster: &Cluster) -> anyhow::Result<Vec<(String, String)>> {
    let list = cluster.get("/v1/unknown-files?limit=1000").await?;
    let rows = list["files"].as_array().context("a list")?.iter();
    let text = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
    Ok(rows.map(|row| (text(row, "server"), text(row, "file"))).collect())
}

/// Announces files and searches for them until told to stop; counts in `all` what was acknowledged.
async fn load(cluster: &Cluster, stop: &CancellationToken, all: &AtomicUsize) -> anyhow::Result<()> {
    while !stop.is_cancelled() {
        let body = json!({ "name": format!("load-{}.bin", all.load(Ordering::Relaxed)), "size": 10 });
        let answer = cluster.request(Method::POST, "/v1/files").json(&body).send().await?;
        assert_eq!(answer.status(), StatusCode::CREATED);
        all.fetch_add(1, Ordering::Relaxed);
        cluster.get("/v1/files?q=load&limit=20").await?;
    }
    Ok(())
}

#[tokio::test]
async fn backups_beside_many_writers_are_sound_and_hold_what_was_acknowledged_before() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(&Plan::zones(&["eu", "us"])).await?;
    let id = cluster.publish(&file(&cluster, "x.bin", 1, 1000)?, &[]).await?;
    let (stop, made) = (CancellationToken::new(), AtomicUsize::new(0));
    let loads = try_join_all((0..8).map(|_| load(&cluster, &stop, &made)));
    let details = async {
        while !stop.is_cancelled() {
            cluster.details(&id).await?;
        }
        anyhow::Ok(())
    };
    let backups = async {
        let mut before = Vec::new();
        for n in 0..4 {
            let enough = async || Ok((made.load(Ordering::Relaxed) >= (n + 1) * 40).then_some(()));
            eventually("files come meanwhile", STEP_TIMEOUT, enough).await?;
            let acknowledged = cluster.get("/v1/files?limit=500").await?["files"].as_array().context("a list")?.clone();
            back_up(&cluster, &format!("backup-{n}.sqlite")).await?;
            before.push(acknowledged);
        }
        stop.cancel();
        anyhow::Ok(before)
    };
    let (_, (), before) = tokio::try_join!(loads, details, backups)?;

    // Each one stands for itself: it is read by a server of its own.
    for (n, acknowledged) in before.iter().enumerate() {
        let backup = cluster.path(&format!("backup-{n}.sqlite"));
        assert_eq!(std::fs::metadata(&backup)?.permissions().mode() & 0o777, 0o600);
        let folder = format!("restored-{n}");
        cluster.operate("ddm-info-server", &folder, &["restore", &backup.display().to_string()]).await?;
        cluster.start_info_elsewhere(&folder).await?;
        for file in acknowledged {
            let id = file["id"].as_str().context("an id")?;
            let what = || format!("backup {n} and {id}, which was listed before it was made");
            cluster.get(&format!("/v1/files/{id}?grant=false")).await.with_context(what)?;
        }
    }
    assert!(!names(&cluster.path(""))?.iter().any(|name| name.ends_with(".new")), "something was left aside");
    Ok(())
}

#[tokio::test]
async fn a_catalogue_put_back_elsewhere_serves_what_it_knows_and_keeps_what_it_does_not() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(&Plan { info_proxied: true, ..Plan::zones(&["eu", "eu", "us"]) }).await?;
    cluster.excuse(Promise::NothingLost, SINCE);
    let before = file(&cluster, "before.bin", 1, 3 * MIB)?;
    let (known, known_digest) = (cluster.publish(&before, &["--quorum", "3"]).await?, sha256(&before)?);
    let (stop, made) = (CancellationToken::new(), AtomicUsize::new(0));
    let backed_up = async {
        let said = back_up(&cluster, "backup.sqlite").await?;
        stop.cancel();
        anyhow::Ok(said)
    };
    tokio::try_join!(load(&cluster, &stop, &made), backed_up)?;
    let taken = back_up(&cluster, "backup.sqlite").await.unwrap_err().to_string();
    assert!(taken.contains("is there already"), "{taken}");

    let after = file(&cluster, "after.bin", 2, 2 * MIB)?;
    let (unknown, unknown_digest) = (cluster.publish(&after, &["--quorum", "3"]).await?, sha256(&after)?);
    let gone = cluster.publish(&file(&cluster, "gone.bin", 3, 1000)?, &["--quorum", "3"]).await?;
    assert!(cluster.run_client(&["remove", &gone]).await?.status.success());
    eventually("no server holds the removed file", STEP_TIMEOUT, async || {
        let blob = |n| cluster.path(&format!("file-server-{n}/files/{}/{gone}", &gone[gone.len() - 2..]));
        Ok((0..cluster.servers.len()).all(|n| !blob(n).exists()).then_some(()))
    })
    .await?;
    let old_token = cluster.details(&unknown).await?["download"]["token"].as_str().context("a token")?.to_owned();
    let old_session = cluster.token.clone();

    // Not beneath a running server, and not over a catalogue.
    let backup = cluster.path("backup.sqlite").display().to_string();
    let restore = ["restore", &backup];
    let running = cluster.operate("ddm-info-server", "info-server", &restore).await.unwrap_err().to_string();
    assert!(running.contains("another process works on"), "{running}");
    cluster.info.take().context("an info-server")?.kill().await?;
    let stands = cluster.operate("ddm-info-server", "info-server", &restore).await.unwrap_err().to_string();
    assert!(stands.contains("--replace"), "{stands}");

    cluster.operate("ddm-info-server", "elsewhere", &restore).await?;
    std::fs::copy(cluster.path("info-server/join-secret"), cluster.path("elsewhere/join-secret"))?;
    cluster.start_info_elsewhere("elsewhere").await?;
    let ended = cluster.http.get(format!("{}/v1/files", cluster.info_url())).bearer_auth(old_session).send().await?;
    assert_eq!(ended.status(), StatusCode::UNAUTHORIZED, "sessions of the old life are ended");
    let all = cluster.servers.len();
    eventually("all file servers are back", STEP_TIMEOUT, async || {
        Ok((cluster.server_ids().await?.len() == all).then_some(()))
    })
    .await?;
    eventually("what the catalogue does not know is reported by all", STEP_TIMEOUT, async || {
        let rows = unknown_files(&cluster).await?;
        assert!(rows.iter().all(|(_, file)| *file == unknown), "{rows:?}");
        Ok((rows.len() == all).then_some(()))
    })
    .await?;
    event(&cluster.run_client(&["--json", "-o", "got.bin", &known]).await?, "done")?;
    assert_eq!(sha256(&cluster.path("got.bin"))?, known_digest);

    for server in &cluster.servers {
        let address = server.process.as_ref().context("a process")?.address();
        let url = format!("http://{address}/v1/files/{unknown}/content");
        let answer = cluster.http.get(url).bearer_auth(&old_token).send().await?;
        assert_eq!(answer.status(), StatusCode::FORBIDDEN, "grants of the old life are void");
    }
    assert_eq!(
        cluster.request(Method::GET, &format!("/v1/files/{unknown}")).send().await?.status(),
        StatusCode::NOT_FOUND
    );
    let listed = cluster.operate("ddm-info-server", "elsewhere", &["unknown"]).await?;
    assert_eq!(listed.lines().filter(|line| line.contains(&unknown)).count(), all, "{listed}");
    decide(&cluster, &unknown, &unknown_digest).await
}

/// An operator has one server drop the file, and takes it back into the catalogue from another one.
async fn decide(cluster: &Cluster, id: &str, digest: &str) -> anyhow::Result<()> {
    let listed = cluster.operate("ddm-file-server", "file-server-0", &["unknown", "list"]).await?;
    assert_eq!(listed.trim(), format!("{id} {} bytes, whole", 2 * MIB));
    cluster.operate("ddm-file-server", "file-server-0", &["unknown", "remove", id]).await?;
    assert!(!crate::events::walk(&cluster.path("file-server-0"), id)?, "its bytes are still there");
    let again = cluster.operate("ddm-file-server", "file-server-0", &["unknown", "remove", id]).await.unwrap_err();
    assert!(again.to_string().contains("unknown list"), "{again}");
    eventually("the removal is known", STEP_TIMEOUT, async || {
        let left = unknown_files(cluster).await?;
        Ok((left.len() == 2 && left.iter().all(|(server, _)| *server != cluster.servers[0].id)).then_some(()))
    })
    .await?;

    let session = cluster.path("session");
    ddm_testkit::process::write_private(&session, cluster.token.as_bytes())?;
    let login = session.display().to_string();
    let info = cluster.info_url().to_owned();
    let adopt = ["--info", &info, "unknown", "adopt", id, "--name", "back.bin", "--session-token-file", &login];
    cluster.operate("ddm-file-server", "file-server-1", &adopt).await?;
    eventually("it stands on three servers again", 2 * STEP_TIMEOUT, async || {
        let details = cluster.details(id).await?;
        Ok((details["live_replicas"] == 3).then_some(()))
    })
    .await?;
    assert!(unknown_files(cluster).await?.is_empty());
    event(&cluster.run_client(&["--json", "-o", "back.bin", id]).await?, "done")?;
    assert_eq!(sha256(&cluster.path("back.bin"))?, digest);
    Ok(())
}

#[tokio::test]
async fn a_file_that_was_removed_after_the_backup_is_not_counted_where_it_no_longer_stands() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(&Plan::zones(&["eu", "us"])).await?;
    let id = cluster.publish(&file(&cluster, "x.bin", 1, 1000)?, &[]).await?;
    back_up(&cluster, "backup.sqlite").await?;
    assert!(cluster.run_client(&["remove", &id]).await?.status.success());
    let stands = async |n: usize| crate::events::walk(&cluster.path(&format!("file-server-{n}")), &id);
    eventually("both dropped it", STEP_TIMEOUT, async || Ok((!stands(0).await? && !stands(1).await?).then_some(())))
        .await?;

    cluster.info.take().context("an info-server")?.stop().await?;
    let backup = cluster.path("backup.sqlite").display().to_string();
    let said = cluster.operate("ddm-info-server", "info-server", &["restore", &backup, "--replace"]).await?;
    let kept = names(&cluster.path("info-server"))?.into_iter().find(|name| name.contains(".replaced-"));
    assert!(said.contains(&kept.context("the catalogue that was there is kept")?), "{said}");
    cluster.restart_info().await?;
    cluster.token = cluster.log_in(ddm_testkit::cluster::ADMIN).await?;
    eventually("no server is listed as a holder", STEP_TIMEOUT, async || {
        Ok((cluster.get(&format!("/v1/files/{id}?grant=false")).await?["live_replicas"] == 0).then_some(()))
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn what_is_no_sound_backup_is_refused_and_changes_nothing() -> anyhow::Result<()> {
    let cluster = Cluster::start(&Plan::zones(&["eu"])).await?;
    for n in 0..40 {
        let body = json!({ "name": format!("{n}-{}", "x".repeat(200)), "size": 10, "quorum": 1 });
        let answer = cluster.request(Method::POST, "/v1/files").json(&body).send().await?;
        assert_eq!(answer.status(), StatusCode::CREATED);
    }
    back_up(&cluster, "backup.sqlite").await?;
    let good = std::fs::read(cluster.path("backup.sqlite"))?;
    let mut spoilt = good.clone();
    let middle = spoilt.len() / 2;
    spoilt[middle..middle + 9000].fill(0x5a);
    let truncated = good[..good.len() / 2].to_vec();
    for (name, content) in
        [("spoilt", spoilt), ("truncated", truncated), ("text", b"hello".to_vec()), ("empty", Vec::new())]
    {
        std::fs::write(cluster.path(name), content)?;
        let path = cluster.path(name).display().to_string();
        let refusal =
            cluster.operate("ddm-info-server", "restored", &["restore", &path]).await.unwrap_err().to_string();
        assert!(refusal.contains(name), "{name}: {refusal}");
        assert!(!names(&cluster.path("restored"))?.iter().any(|name| name.starts_with("catalogue")), "{name}");
    }
    std::fs::write(cluster.path("backup.sqlite-wal"), b"x")?;
    let backup = cluster.path("backup.sqlite").display().to_string();
    let unfinished = cluster.operate("ddm-info-server", "restored", &["restore", &backup]).await.unwrap_err();
    assert!(unfinished.to_string().contains("no finished backup"), "{unfinished}");
    let nowhere = cluster.operate("ddm-info-server", "nowhere", &["backup", "x"]).await.unwrap_err().to_string();
    assert!(nowhere.contains("there is no catalogue"), "{nowhere}");
    Ok(())
}

#[tokio::test]
async fn programs_are_replaced_one_after_another_while_files_come_and_go() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(&Plan::zones(&["eu", "eu", "us"])).await?;
    let source = file(&cluster, "x.bin", 1, 24 * MIB)?;
    let (id, digest) = (cluster.publish(&source, &["--quorum", "3"]).await?, sha256(&source)?);
    let fresh = file(&cluster, "fresh.bin", 2, 2 * MIB)?;
    let mut published = Vec::new();
    // The info-server first, then each file server; every one of them stops as it is asked to, with downloads running.
    for turn in 0..=cluster.servers.len() {
        let mut downloads = Vec::new();
        for n in 0..3 {
            let name = format!("got-{turn}-{n}.bin");
            downloads.push((cluster.spawn_client(&["--json", "--wait", "60s", "-o", &name, &id])?, name));
        }
        let publisher = cluster.spawn_client(&["--json", "publish", &fresh.display().to_string()])?;
        // A command that meets a server that stops already is refused; these are under way.
        eventually("all downloads have begun", STEP_TIMEOUT, async || {
            let begun = |name: &String| {
                let path = cluster.path(name);
                path.exists() || path.with_extension("bin.part").exists()
            };
            Ok(downloads.iter().all(|(_, name)| begun(name)).then_some(()))
        })
        .await?;
        if turn == 0 {
            assert!(cluster.info.take().context("an info-server")?.stop().await?.success());
            cluster.restart_info().await?;
        } else {
            assert!(cluster.take_server(turn - 1)?.stop().await?.success());
            cluster.restart_server(turn - 1).await?;
        }
        for (client, name) in downloads {
            event(&ddm_testkit::cluster::finish(client).await?, "done").with_context(|| name.clone())?;
            assert_eq!(sha256(&cluster.path(&name))?, digest);
            std::fs::remove_file(cluster.path(&name))?;
        }
        if let Ok(id) = cluster.published(&ddm_testkit::cluster::finish(publisher).await?, &fresh) {
            published.push(id);
        }
        // The next one goes only when this one is back in its place.
        eventually("all are listed", STEP_TIMEOUT, async || Ok((cluster.server_ids().await?.len() == 3).then_some(())))
            .await?;
    }
    println!("{} of 4 publications went through at once", published.len());
    assert!(published.len() >= 3, "a file server that is replaced fails no publication");
    for id in &published {
        event(&cluster.run_client(&["--json", "-f", "-o", "again.bin", id]).await?, "done")?;
    }
    Ok(())
}
