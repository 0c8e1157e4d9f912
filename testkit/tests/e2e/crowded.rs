//! S44: a hundred file servers are listed and used.

use std::collections::BTreeSet;

use anyhow::Context as _;
use ddm_testkit::{
    cluster::{Cluster, Plan},
    fleet::Fleet,
};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::content::{MIB, event, file, number, sha256};

/// Real processes, all of one zone; the others only beat.
const REAL: usize = 8;
const ALL: usize = 100;
/// Number of files that leave out a given server with a probability of one in ten million.
const FILES: usize = 600;

#[tokio::test]
async fn a_hundred_file_servers_are_listed_and_files_go_to_all_of_them() -> anyhow::Result<()> {
    let cluster = Cluster::start(&Plan::zones(&["real"; REAL])).await?;
    let secret = std::fs::read_to_string(cluster.path("info-server/join-secret"))?;
    let zones = ["eu".parse()?, "us".parse()?];
    let fleet = Fleet::start(cluster.info_url(), secret.trim(), &zones, ALL - REAL).await?;
    let listed: BTreeSet<String> = cluster.server_ids().await?.into_iter().collect();
    assert_eq!(listed.len(), ALL);
    assert!(fleet.ids().all(|id| listed.contains(id.as_str())));

    let announce = |n: usize| {
        let new = json!({ "name": format!("{n}.bin"), "size": MIB, "policy": { "replicas": 3 } });
        let request = cluster.request(Method::POST, "/v1/files").json(&new);
        async move {
            let answer = request.send().await?;
            assert_eq!(answer.status(), StatusCode::CREATED);
            anyhow::Ok(answer.json::<Value>().await?)
        }
    };
    let plans: Vec<Value> = stream::iter(0..FILES).map(announce).buffer_unordered(4).try_collect().await?;
    let targets = plans.iter().flat_map(|plan| plan["targets"].as_array().into_iter().flatten());
    let used: BTreeSet<&str> = targets.filter_map(|target| target["server"].as_str()).collect();
    assert_eq!(
        used.len(),
        ALL,
        "not used: {:?}",
        listed.iter().filter(|id| !used.contains(id.as_str())).collect::<Vec<_>>()
    );

    // And the real ones all give their part of one file.
    let path = file(&cluster, "x.bin", 1, 64 * MIB)?;
    let all = REAL.to_string();
    let id = cluster.publish(&path, &["--zones", "real", "--replicas", &all, "--quorum", &all]).await?;
    let done = event(&cluster.run_client(&["--json", "--limit-rate", "16M", "-o", "got.bin", &id]).await?, "done")?;
    assert_eq!(sha256(&cluster.path("got.bin"))?, sha256(&path)?);
    let sources = done["report"]["sources"].as_array().context("sources")?;
    assert_eq!(sources.iter().filter(|source| number(&source["bytes"]) > 0).count(), REAL, "{done}");
    assert_eq!(fleet.beats().failed, 0);
    Ok(())
}
