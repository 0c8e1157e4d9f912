//! P2, P5, F37: a yes is said only after what it stands for.

use std::time::Duration;

use anyhow::Context as _;
use ddm_testkit::{
    cluster::{Cluster, Plan, STEP_TIMEOUT},
    history::Promise,
    process::{Failing, eventually},
    rabbitmq::RabbitMq,
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use wire::Digest;

use crate::content::{MIB, bytes, file};

/// An upload that the test makes by itself.
struct Upload {
    made: Value,
    chunks: Vec<Vec<u8>>,
}

impl Upload {
    async fn announce(cluster: &Cluster, quorum: u32) -> anyhow::Result<Self> {
        let chunks: Vec<Vec<u8>> = bytes(3, 2 * MIB).chunks(MIB as usize).map(<[u8]>::to_vec).collect();
        let new = json!({ "name": "x", "size": 2 * MIB, "quorum": quorum });
        let answer = cluster.request(Method::POST, "/v1/files").json(&new).send().await?;
        Ok(Self { made: answer.error_for_status()?.json().await?, chunks })
    }

    fn id(&self) -> &str {
        self.made["id"].as_str().unwrap()
    }

    async fn put(&self, cluster: &Cluster, target: usize, chunk: usize) -> anyhow::Result<StatusCode> {
        let content = self.chunks[chunk].clone();
        let url = format!("{}/{chunk}", self.made["targets"][target]["url"].as_str().context("a url")?);
        let put = cluster.http.put(url).bearer_auth(self.made["upload"]["token"].as_str().context("a token")?);
        Ok(put.header("Content-Digest", Digest::of(&content).to_field()).body(content).send().await?.status())
    }

    async fn commit(&self, cluster: &Cluster) -> anyhow::Result<(StatusCode, Value)> {
        let digests: Vec<Digest> = self.chunks.iter().map(|chunk| Digest::of(chunk)).collect();
        let commit = json!({ "sha256": Digest::of(&self.chunks.concat()), "chunks": digests });
        let path = format!("/v1/files/{}/commit", self.id());
        let answer = cluster.request(Method::POST, &path).json(&commit).send().await?;
        Ok((answer.status(), answer.json().await?))
    }
}

#[tokio::test]
async fn a_commit_waits_for_the_whole_quorum_and_not_for_one_server_less() -> anyhow::Result<()> {
    let cluster = Cluster::start(&Plan::zones(&["eu", "us"])).await?;
    let upload = Upload::announce(&cluster, 2).await?;
    for chunk in 0..2 {
        assert_eq!(upload.put(&cluster, 0, chunk).await?, StatusCode::CREATED);
    }
    assert_eq!(upload.put(&cluster, 1, 0).await?, StatusCode::CREATED);
    let (status, problem) = upload.commit(&cluster).await?;
    assert_eq!(status, StatusCode::CONFLICT, "{problem}");
    assert_eq!(problem["holding"].as_array().map(Vec::len), Some(1), "{problem}");
    assert_eq!(upload.put(&cluster, 1, 1).await?, StatusCode::CREATED);
    assert_eq!(upload.commit(&cluster).await?.0, StatusCode::OK);
    Ok(())
}

#[tokio::test]
async fn a_chunk_whose_sync_failed_does_not_count_and_comes_again() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(&Plan::zones(&["eu"])).await?;
    cluster.excuse(Promise::NoInternalErrors, "the disk fails on purpose");
    let upload = Upload::announce(&cluster, 1).await?;
    assert_eq!(upload.put(&cluster, 0, 0).await?, StatusCode::CREATED);
    // The blob alone: the database's syncs succeed, so that nothing but the server's care keeps the chunk from counting.
    let blob = cluster.path("file-server-0/partial").join(upload.id());
    assert!(blob.is_file());
    let pid = cluster.servers[0].process.as_ref().unwrap().pid()?;
    let failing = Failing { path: Some(blob), ..Failing::new(Failing::SYNCS, "EIO", "1+") }.attach(pid).await?;
    let refused = upload.put(&cluster, 0, 1).await?;
    assert!(refused.is_server_error(), "a chunk that was not synced was answered with {refused}");
    failing.detach().await?;
    cluster.take_server(0)?.kill().await?;
    cluster.restart_server(0).await?;
    let token = upload.made["upload"]["token"].as_str().context("a token")?;
    let chunks = upload.made["targets"][0]["url"].as_str().context("a url")?;
    let held: Value = cluster.http.get(chunks).bearer_auth(token).send().await?.json().await?;
    assert!(!held.to_string().contains("[0,2]") && !held.to_string().contains("[1,2]"), "{held}");
    assert_eq!(upload.put(&cluster, 0, 1).await?, StatusCode::CREATED);
    let (status, answer) = upload.commit(&cluster).await?;
    assert_eq!(status, StatusCode::OK, "{answer}");
    Ok(())
}

#[tokio::test]
async fn events_wait_until_a_broker_has_confirmed_them() -> anyhow::Result<()> {
    let broker = RabbitMq::start().await?;
    let cluster = Cluster::start(&Plan { amqp: Some(broker.uri()), ..Plan::zones(&["eu", "us"]) }).await?;
    let id = cluster.publish(&file(&cluster, "x.bin", 2, 1000)?, &[]).await?;
    let waiting = async || anyhow::Ok(cluster.get("/readyz").await?["events_waiting"].as_u64().context("a number")?);
    let none = async || Ok((waiting().await? == 0).then_some(()));
    eventually("all are confirmed", STEP_TIMEOUT, none).await?;
    broker.kill().await?;
    for _ in 0..5 {
        cluster.details(&id).await?;
    }
    // Long enough for a program that takes them for sent.
    for _ in 0..10 {
        let waiting = waiting().await?;
        assert!(waiting >= 10, "5 grants for 2 zones without a broker, and {waiting} of them wait");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    broker.restart().await?;
    eventually("all are confirmed", 2 * STEP_TIMEOUT, none).await
}
