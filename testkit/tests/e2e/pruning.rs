//! P8: what has ended is forgotten, so that no database grows for ever.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, ensure};
use ddm_testkit::{
    cluster::{Cluster, Plan},
    process::{eventually, tool},
};
use reqwest::Method;

use crate::content::file;

/// Rows of a table in a server's database.
async fn rows(database: &PathBuf, what: &str) -> anyhow::Result<u64> {
    let script = "import sqlite3, sys; print(sqlite3.connect(f'file:{sys.argv[1]}?mode=ro', uri=True, timeout=30)\
                  .execute('select count(*) from ' + sys.argv[2]).fetchone()[0])";
    let counted = tool("/usr/bin/python3").args(["-c", script]).arg(database).arg(what).output().await;
    let counted = counted.context("this row needs python3")?;
    ensure!(counted.status.success(), "{}", String::from_utf8_lossy(&counted.stderr));
    Ok(String::from_utf8(counted.stdout)?.trim().parse()?)
}

async fn at_most(database: &PathBuf, what: &str, most: u64) -> anyhow::Result<()> {
    eventually(&format!("at most {most} of {what} are left"), Duration::from_secs(90), async || {
        tokio::time::sleep(Duration::from_millis(250)).await;
        Ok((rows(database, what).await? <= most).then_some(()))
    })
    .await
}

#[tokio::test]
async fn tokens_events_sessions_and_old_entries_of_the_audit_log_are_forgotten() -> anyhow::Result<()> {
    let settings = [
        ("--event-retention", "2s"),
        ("--download-lifetime", "2s"),
        ("--session-lifetime", "30s"),
        ("--audit-rows", "5"),
    ];
    let info_args = settings.iter().flat_map(|(name, value)| [*name, *value]).map(str::to_owned).collect();
    let mut cluster = Cluster::start(&Plan { info_args, ..Plan::zones(&["eu", "eu"]) }).await?;
    let id = cluster.publish(&file(&cluster, "x.bin", 1, 1000)?, &[]).await?;
    let database = cluster.path("info-server/catalogue.sqlite");
    for _ in 0..20 {
        let path = format!("/v1/files/{id}/tokens");
        cluster.request(Method::POST, &path).send().await?.error_for_status()?;
        cluster.log_in(ddm_testkit::cluster::ADMIN).await?;
    }
    let sessions = rows(&database, "sessions").await?;
    assert!(sessions >= 20, "{sessions}");
    // The upload's own token lives for a day.
    at_most(&database, "tokens", 2).await?;
    at_most(&database, "audit where kind = 'login'", 5).await?;
    at_most(&database, "outbox", 3).await?;
    tokio::time::sleep(Duration::from_secs(31)).await;
    // A log-in forgets those that have ended.
    cluster.token = cluster.log_in(ddm_testkit::cluster::ADMIN).await?;
    at_most(&database, "sessions", 2).await?;
    // The file servers look once a minute.
    for n in 0..2 {
        at_most(&cluster.path(&format!("file-server-{n}/file-server.db")), "token", 3).await?;
    }
    Ok(())
}
