//! `watch` over a restart of the info-server.

use std::process::Stdio;

use anyhow::Context as _;
use ddm_testkit::cluster::{Cluster, Plan, finish};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};

use crate::{
    content::{MIB, file},
    hostile::fixture::said,
};

type Events = Lines<BufReader<tokio::process::ChildStdout>>;

/// Reads events until one of this kind.
async fn until(events: &mut Events, kind: &str) -> anyhow::Result<Value> {
    loop {
        let line = events.next_line().await?.with_context(|| format!("it ended before the event {kind}"))?;
        let event: Value = serde_json::from_str(&line)?;
        if event["event"] == kind {
            return Ok(event);
        }
    }
}

#[tokio::test]
async fn watch_goes_on_after_a_restart_of_the_info_server() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(&Plan::zones(&["eu"])).await?;
    let path = file(&cluster, "a.bin", 1, MIB)?;
    cluster.publish(&path, &["--quorum", "1", "--replicas", "2"]).await?;
    let mut client = cluster.client(&["--json", "watch", "a.bin"])?;
    let mut child = client.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut events = BufReader::new(child.stdout.take().context("its output")?).lines();
    until(&mut events, "replicas").await?;
    cluster.info.take().unwrap().stop().await?;
    let waiting = until(&mut events, "waiting").await?;
    assert!(waiting["message"].as_str().is_some_and(|text| text.contains("trying again")), "{waiting}");
    cluster.restart_info().await?;
    until(&mut events, "note").await?;
    cluster.run_client(&["policy", "a.bin", "--replicas", "1"]).await?;
    while events.next_line().await?.is_some() {}
    let output = finish(child).await?;
    assert!(output.status.success(), "{}", said(&output));
    // A refusal ends it.
    let output = cluster.run_client(&["watch", "b.bin"]).await?;
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    Ok(())
}
