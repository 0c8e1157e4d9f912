//! A URL that file servers fetch together with the client (S19, S20, S25, S54).

use std::time::Duration;

use ddm_testkit::{
    cluster::{Cluster, events, finish},
    process::eventually,
};

use super::{
    fixture::{SIZE, job, near, state},
    web::Web,
};
use crate::content::{MIB, bytes, event, number};

#[tokio::test]
async fn several_servers_fetch_a_url_and_the_report_says_who_and_how_it_was_checked() -> anyhow::Result<()> {
    let cluster = Cluster::start(&near(&["eu", "eu", "us"])).await?;
    let web = Web::serve(bytes(1, SIZE)).await?;
    web.limit(4 << 20);
    let output = cluster.run_client(&["--json", "--zone", "eu", &web.url("plain", "x.bin")]).await?;
    let done = event(&output, "done")?;
    assert!(std::fs::read(cluster.path("x.bin"))? == bytes(1, SIZE));
    assert_eq!(done["checked"], "sampled", "{done}");
    let shares = done["report"]["sources"].as_array().unwrap().iter().map(|source| number(&source["share_permille"]));
    assert_eq!(shares.sum::<u64>(), 1000);
    let workers = done["fetched"]["job"]["workers"].as_array().unwrap();
    assert!(workers.iter().filter(|worker| number(&worker["bytes"]) > 0).count() >= 2, "{done}");
    let printed = events(&output)?;
    let progress: Vec<u64> =
        printed.iter().filter(|event| event["event"] == "progress").map(|event| number(&event["bytes_done"])).collect();
    assert!(!progress.is_empty() && progress.is_sorted(), "{progress:?}");
    assert!(printed.iter().any(|event| event["event"] == "job" && event["job"]["workers"][0]["rate"].is_u64()));
    assert!(web.sent() <= SIZE + SIZE / 50 + 2 * MIB + MIB, "{} bytes left the origin", web.sent());
    Ok(())
}

#[tokio::test]
async fn the_connections_and_zones_that_a_client_asks_for_are_those_that_work() -> anyhow::Result<()> {
    let cluster = Cluster::start(&near(&["eu", "us", "us"])).await?;
    let web = Web::serve(bytes(1, SIZE)).await?;
    web.limit(6 << 20);
    let url = web.url("plain", "x.bin");
    let config = cluster.path("client.toml");
    std::fs::write(&config, "worker-zones = ['us']\n")?;
    let config = config.display().to_string();
    let args = ["--config", &config, "--json", "--origin-connections", "3", "-f", "-o", "x.bin", &url];
    for (more, zones) in [(&[][..], &[1, 2][..]), (&["--worker-zones", "eu"], &[0])] {
        let done = event(&cluster.run_client(&[&args[..], more].concat()).await?, "done")?;
        assert!(std::fs::read(cluster.path("x.bin"))? == bytes(1, SIZE));
        let job = &done["fetched"]["job"];
        assert_eq!(number(&job["connections"]), 3, "{done}");
        let worked = job["workers"].as_array().unwrap().iter().filter(|worker| number(&worker["bytes"]) > 0);
        let worked: Vec<_> = worked.map(|worker| worker["server"].as_str().unwrap().to_owned()).collect();
        let may: Vec<_> = zones.iter().map(|n| cluster.servers[*n].id.clone()).collect();
        assert!(!worked.is_empty() && worked.iter().all(|id| may.contains(id)), "{worked:?} of {may:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_later_download_waits_survives_a_restart_and_can_be_cancelled() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(&near(&["eu", "eu"])).await?;
    let web = Web::serve(bytes(1, SIZE)).await?;
    let far = cluster.run_client(&["--json", "--in", "2h", "--keep", &web.url("plain", "far.bin")]).await?;
    let far = event(&far, "scheduled")?["job"]["id"].as_str().unwrap().to_owned();
    let client = cluster.spawn_client(&["--json", "--in", "4s", &web.url("plain", "soon.bin")])?;
    eventually("both are listed", Duration::from_secs(30), async || {
        Ok((cluster.get("/v1/jobs").await?["jobs"].as_array().unwrap().len() == 2).then_some(()))
    })
    .await?;
    assert_eq!(web.sent(), 0, "nothing is asked before its time");
    cluster.info.take().unwrap().kill().await?;
    cluster.restart_info().await?;
    let output = finish(client).await?;
    event(&output, "done")?;
    assert!(std::fs::read(cluster.path("soon.bin"))? == bytes(1, SIZE));
    state(&cluster, &far, "scheduled").await?;
    let output = cluster.run_client(&["jobs", "cancel", &far]).await?;
    assert!(output.status.success(), "{output:?}");
    let output = cluster.run_client(&["--json", "jobs"]).await?;
    assert!(!events(&output)?.iter().any(|job| job["id"] == far.as_str() && job["state"] == "scheduled"), "{output:?}");
    Ok(())
}

#[tokio::test]
async fn two_clients_share_the_work_for_one_url() -> anyhow::Result<()> {
    let cluster = Cluster::start(&near(&["eu", "eu"])).await?;
    let web = Web::serve(bytes(1, SIZE)).await?;
    web.limit(2 << 20);
    let url = web.url("plain", "x.bin");
    let one = cluster.spawn_client(&["--json", "-o", "one.bin", &url])?;
    job(&cluster).await?;
    let two = cluster.spawn_client(&["--json", "-o", "two.bin", &url])?;
    let (one, two) = tokio::join!(finish(one), finish(two));
    for (output, name) in [(one?, "one.bin"), (two?, "two.bin")] {
        event(&output, "done")?;
        assert!(std::fs::read(cluster.path(name))? == bytes(1, SIZE), "{name}");
    }
    assert!(web.sent() <= SIZE + SIZE / 2, "{} bytes left the origin", web.sent());
    Ok(())
}
