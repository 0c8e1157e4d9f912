//! State of files, as rows see it.

use std::{path::PathBuf, time::Duration};

use anyhow::Context as _;
use ddm_testkit::{cluster::Cluster, process::eventually};
use serde_json::Value;

use crate::content::sha256;

/// Wanted and there, by zone and server.
pub(crate) async fn status(cluster: &Cluster, id: &str) -> anyhow::Result<Value> {
    cluster.get(&format!("/v1/files/{id}/replicas")).await
}

/// The servers that are to hold a file, in the cluster's order.
pub(crate) async fn assigned(cluster: &Cluster, id: &str) -> anyhow::Result<Vec<usize>> {
    servers(cluster, id, |row| row["assigned"] == true).await
}

/// The servers that hold all of a file, verified, and are live, in the cluster's order.
pub(crate) async fn complete(cluster: &Cluster, id: &str) -> anyhow::Result<Vec<usize>> {
    let chunks = status(cluster, id).await?["chunks"].clone();
    servers(cluster, id, |row| row["verified"] == chunks && row["live"] == true).await
}

async fn servers(cluster: &Cluster, id: &str, which: impl Fn(&Value) -> bool) -> anyhow::Result<Vec<usize>> {
    let status = status(cluster, id).await?;
    let rows = status["replicas"].as_array().context("replicas")?;
    let has = |server: &str| rows.iter().any(|row| row["server"] == server && which(row));
    Ok((0..cluster.servers.len()).filter(|n| has(&cluster.servers[*n].id)).collect())
}

/// Waits until a file stands as it should.
pub(crate) async fn replicated(cluster: &Cluster, id: &str, limit: Duration) -> anyhow::Result<()> {
    eventually("the file stands as it should", limit, async || {
        Ok((status(cluster, id).await?["replicated"] == true).then_some(()))
    })
    .await
}

/// Returns the path of a complete replica.
pub(crate) fn place(cluster: &Cluster, n: usize, id: &str) -> PathBuf {
    cluster.path(&format!("file-server-{n}/files/{}/{id}", &id[id.len() - 2..]))
}

/// Waits until a replica is whole on its disk.
pub(crate) async fn whole(cluster: &Cluster, n: usize, id: &str, digest: &str) -> anyhow::Result<()> {
    let path = place(cluster, n, id);
    let what = format!("the replica of server {n} is whole");
    let is_whole = async || Ok(sha256(&path).is_ok_and(|found| found == digest).then_some(()));
    eventually(&what, Duration::from_secs(60), is_whole).await
}

/// A counter of a file server.
pub(crate) async fn metric(cluster: &Cluster, n: usize, name: &str) -> anyhow::Result<u64> {
    let address = cluster.servers[n].process.as_ref().context("a process")?.address();
    let text = cluster.http.get(format!("http://{address}/metrics")).send().await?.text().await?;
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("ddm_file_server_{name} ")));
    Ok(line.with_context(|| format!("no metric {name}"))?.trim().parse()?)
}

/// Bytes of content that these servers handed to connections.
pub(crate) async fn given(cluster: &Cluster, servers: impl IntoIterator<Item = usize>) -> anyhow::Result<u64> {
    let mut given = 0;
    for n in servers {
        given += metric(cluster, n, "content_bytes_total").await?;
    }
    Ok(given)
}

/// Waits until nothing lies in the folders of these servers.
pub(crate) async fn empty(cluster: &Cluster, servers: impl IntoIterator<Item = usize>) -> anyhow::Result<()> {
    for n in servers {
        let data = cluster.path(&format!("file-server-{n}"));
        eventually("the server's folders are empty", Duration::from_secs(60), async || {
            let mut left = std::fs::read_dir(data.join("partial"))?.count();
            for shard in std::fs::read_dir(data.join("files"))?.collect::<Result<Vec<_>, _>>()? {
                left += if shard.file_type()?.is_dir() { std::fs::read_dir(shard.path())?.count() } else { 1 };
            }
            // The mark of each folder.
            Ok((left == 2).then_some(()))
        })
        .await?;
    }
    Ok(())
}
