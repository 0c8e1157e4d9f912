//! F44: wrong clocks.

use std::time::{Duration, Instant};

use anyhow::ensure;
use ddm_testkit::{
    cluster::{Cluster, Plan, finish},
    process::eventually,
};
use reqwest::StatusCode;

use super::fixture::{status, urls};
use crate::content::file;

/// Process whose clock is wrong.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Whose {
    FileServers,
    InfoServer,
    Client,
}

/// `clock` stands for an offset as faketime reads it.
async fn on_a_wrong_clock(whose: Whose, clock: &str, jump: Option<&str>) -> anyhow::Result<()> {
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
    let env = env.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let of = |process: Whose| if whose == process { env.clone() } else { Vec::new() };
    let plan = Plan {
        info_args: vec!["--download-lifetime".to_owned(), format!("{}s", lifetime.as_secs())],
        file_server_env: of(Whose::FileServers),
        info_env: of(Whose::InfoServer),
        ..Plan::zones(&["eu", "eu"])
    };
    let cluster = Cluster::start(&plan).await?;
    let id = cluster.publish(&file(&cluster, "x.bin", 34, 1000)?, &[]).await?;
    let urls = urls(&cluster, &id).await?;
    let mut client = cluster.client(&["--json", "-o", "got.bin", &id])?;
    client.envs(of(Whose::Client)).stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let output = finish(client.spawn()?).await?;
    ensure!(output.status.success(), "{clock}: {}", String::from_utf8_lossy(&output.stderr));
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
    // A file server's clock may differ from the info-server's by the way of a heartbeat.
    let (least, most) = (lifetime - Duration::from_secs(1), lifetime + Duration::from_secs(8));
    assert!(granted.elapsed() >= least, "{clock} {jump:?}: ended after {:?}", granted.elapsed());
    assert!(granted.elapsed() < most, "{clock} {jump:?}: lived {:?}", granted.elapsed());
    Ok(())
}

#[tokio::test]
async fn a_wrong_wall_clock_neither_lengthens_nor_shortens_a_tokens_life() -> anyhow::Result<()> {
    let clocks = ["-10m", "+10m", "-1d", "+1d"].map(|clock| on_a_wrong_clock(Whose::FileServers, clock, None));
    futures::future::try_join_all(clocks).await.map(drop)
}

#[tokio::test]
async fn a_wrong_clock_of_the_info_server_or_of_a_client_keeps_nobody_from_a_file() -> anyhow::Result<()> {
    let of = |whose| ["-1d", "+1d"].map(|clock| on_a_wrong_clock(whose, clock, None));
    let clocks = of(Whose::InfoServer).into_iter().chain(of(Whose::Client));
    futures::future::try_join_all(clocks).await.map(drop)
}

#[tokio::test]
async fn a_wall_clock_that_jumps_changes_no_tokens_life() -> anyhow::Result<()> {
    let jumps = [("+0", "+1d"), ("+0", "-1d"), ("+10m", "-10m")]
        .map(|(from, to)| on_a_wrong_clock(Whose::FileServers, from, Some(to)));
    futures::future::try_join_all(jumps).await.map(drop)
}
