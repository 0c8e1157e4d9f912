//! A result that is kept for the next requester (S25, S54).

use ddm_testkit::{
    cluster::{Cluster, finish},
    nginx::Nginx,
    process::eventually,
};
use serde_json::Value;

use super::fixture::{SIZE, STEP_TIMEOUT, near, piped, somebody};
use crate::content::{bytes, event};

#[tokio::test]
async fn a_kept_file_reaches_the_next_requester_without_a_request_to_the_origin() -> anyhow::Result<()> {
    let origin = Nginx::start("").await?;
    std::fs::write(origin.root().join("image.iso"), bytes(4, SIZE))?;
    let url = origin.url("image.iso");
    let mut cluster = Cluster::start(&near(&["eu", "eu"])).await?;
    let first = event(&cluster.run_client(&["--json", "--keep", &url]).await?, "done")?;
    assert!(std::fs::read(cluster.path("image.iso"))? == bytes(4, SIZE));
    let file = first["fetched"]["job"]["file"].as_str().unwrap().to_owned();
    // Every server ends with all of it, whichever server fetched what.
    eventually("it is kept on both servers", STEP_TIMEOUT, async || {
        let details = cluster.request(reqwest::Method::GET, &format!("/v1/files/{file}?grant=false")).send().await?;
        let details: Value = details.json().await?;
        Ok((details["state"] == "available" && details["live_replicas"] == 2).then_some(()))
    })
    .await?;
    let asked = origin.served()?;
    assert!(asked.iter().any(|request| request.bytes > 1 << 20), "{asked:?}");

    // Its owner may take it once more, and it stays.
    let more = cluster.run_client(&["--json", &url, "-o", "more.iso"]).await?;
    event(&more, "done")?;
    let next = finish(piped(somebody(&cluster, "friend", &["--json", &url]).await?)?).await?;
    let done = event(&next, "done")?;
    assert!(std::fs::read(cluster.path("friend/image.iso"))? == bytes(4, SIZE));
    assert_eq!(done["fetched"]["job"]["file"], file.as_str(), "it is the very file that was kept: {done}");
    assert_eq!(origin.served()?, asked, "the origin was asked again");

    // It also outlives one of its servers and the origin.
    drop(origin);
    cluster.take_server(0)?.kill().await?;
    let last = finish(piped(somebody(&cluster, "colleague", &["--json", &url]).await?)?).await?;
    event(&last, "done")?;
    assert!(std::fs::read(cluster.path("colleague/image.iso"))? == bytes(4, SIZE));
    // For the account that keeps it, it is a file like others; other accounts do not see it before they request its URL.
    event(&cluster.run_client(&["--json", &file, "-o", "again.iso"]).await?, "done")?;
    assert!(std::fs::read(cluster.path("again.iso"))? == bytes(4, SIZE));
    let listed = finish(piped(somebody(&cluster, "stranger", &["--json", "list"]).await?)?).await?;
    assert!(listed.status.success() && listed.stdout.is_empty(), "{listed:?}");
    Ok(())
}
