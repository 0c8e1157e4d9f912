//! Metalinks, taken by a real aria2.

use std::{
    path::{Path, PathBuf},
    process::Output,
};

use anyhow::Context as _;
use ddm_testkit::{
    cluster::{Cluster, Plan, STEP_TIMEOUT, run_with_input},
    process::{eventually, tool},
};

use super::{download_token, server_url};
use crate::content::{MIB, file, sha256};

/// Downloads what a Metalink names with a real aria2.
async fn aria2(cluster: &Cluster, metalink: &Path, token: &str, folder: &str) -> anyhow::Result<Output> {
    let mut aria2 = tool("aria2c");
    aria2.current_dir(cluster.path("")).arg("--metalink-file").arg(metalink);
    aria2.args([
        "--no-conf",
        "--no-netrc",
        "--all-proxy=",
        "--dir",
        folder,
        "--header",
        &format!("Authorization: Bearer {token}"),
    ]);
    // One connection to each server, so that each has its share. It counts them by host, whatever the port.
    aria2.args([
        "--split=3",
        "--max-connection-per-server=3",
        "--min-split-size=1M",
        "--max-tries=3",
        "--retry-wait=1",
    ]);
    // Slow enough that no server is done before all have begun.
    aria2.arg("--max-overall-download-limit=16M");
    aria2.args(["--summary-interval=0", "--console-log-level=info"]);
    run_with_input(aria2, "").await
}

async fn content_bytes(cluster: &Cluster) -> anyhow::Result<Vec<u64>> {
    let mut sent = Vec::new();
    for n in 0..cluster.servers.len() {
        let text = cluster.http.get(format!("{}/metrics", server_url(cluster, n))).send().await?.text().await?;
        let line = text.lines().find_map(|line| line.strip_prefix("ddm_file_server_content_bytes_total "));
        sent.push(line.context("bytes served")?.parse()?);
    }
    Ok(sent)
}

/// A published file, complete on three servers, and the Metalink that the client wrote of it.
async fn with_metalink(size: u64) -> anyhow::Result<(Cluster, String, PathBuf, PathBuf)> {
    let cluster = Cluster::start(&Plan::zones(&["eu", "us", "us"])).await?;
    // No ampersand: of libxml2 aria2 gets it as `&#38;`, and names the file so.
    let path = file(&cluster, "big <bold>.bin", 7, size)?;
    let id = cluster.publish(&path, &[]).await?;
    let complete = async || Ok((cluster.get("/v1/files").await?["files"][0]["live_replicas"] == 3).then_some(()));
    eventually("all three targets have reported", STEP_TIMEOUT, complete).await?;
    let metalink = cluster.path("it.meta4");
    let wrote = cluster.run_client(&["--zone", "eu", "metalink", &id, "-o", "it.meta4"]).await?;
    assert!(wrote.status.success(), "{}", String::from_utf8_lossy(&wrote.stderr));
    Ok((cluster, id, path, metalink))
}

#[tokio::test]
async fn aria2_takes_a_file_from_every_server_that_its_metalink_names() -> anyhow::Result<()> {
    let (cluster, id, path, metalink) = with_metalink(48 * MIB + 5).await?;
    let text = std::fs::read_to_string(&metalink)?;
    assert_eq!((text.matches("priority=\"1\"").count(), text.matches("priority=\"2\"").count()), (1, 2), "{text}");
    assert!(!text.contains("ddmd_") && !text.contains("ddms_"), "a token in a Metalink");
    let output = aria2(&cluster, &metalink, &download_token(&cluster, &id).await?, "got").await?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(sha256(&cluster.path("got/big <bold>.bin"))?, sha256(&path)?);
    let sent = content_bytes(&cluster).await?;
    println!("bytes by server: {sent:?}");
    assert!(sent.iter().all(|bytes| *bytes >= MIB), "{sent:?}");
    Ok(())
}

#[tokio::test]
async fn aria2_finds_a_spoilt_source_by_the_pieces_of_the_metalink() -> anyhow::Result<()> {
    let (cluster, id, path, metalink) = with_metalink(24 * MIB).await?;
    let blob = find(&cluster.path("file-server-1/files"))?.context("a blob")?;
    let mut spoilt = std::fs::read(&blob)?;
    spoilt.iter_mut().step_by(100_000).for_each(|byte| *byte ^= 1);
    // In place: a blob that is shorter for a moment would be noticed and fetched again.
    std::io::Write::write_all(&mut std::fs::File::options().write(true).open(&blob)?, &spoilt)?;
    let output = aria2(&cluster, &metalink, &download_token(&cluster, &id).await?, "got").await?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("hecksum") && said.to_lowercase().contains("fail"), "no piece was found to be wrong: {said}");
    assert_eq!(sha256(&cluster.path("got/big <bold>.bin"))?, sha256(&path)?);
    Ok(())
}

/// The only file below a folder.
fn find(folder: &Path) -> anyhow::Result<Option<PathBuf>> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let found = if path.is_dir() { find(&path)? } else { Some(path) };
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}
