//! Signals that are not there to end a server.

use anyhow::Context as _;
use ddm_testkit::{
    cluster::{Cluster, Plan, STEP_TIMEOUT},
    process::eventually,
};
use rustix::process::Signal;

#[tokio::test]
async fn a_hangup_ends_no_info_server() -> anyhow::Result<()> {
    let cluster = Cluster::start(&Plan::default()).await?;
    let info = cluster.info.as_ref().context("an info-server")?;
    info.signal(Signal::HUP)?;
    eventually("it says what the signal is for", STEP_TIMEOUT, async || {
        Ok(info.log()?.contains("SIGHUP: --amqp-file is read again").then_some(()))
    })
    .await?;
    cluster.get("/v1/files").await?;
    Ok(())
}
