//! P2, P12, F7, F8, F33: replicas come back by themselves, whatever became of their bytes.

use std::{
    os::unix::fs::{FileExt as _, MetadataExt as _},
    time::{Duration, Instant},
};

use ddm_testkit::{
    cluster::{Cluster, Plan, STEP_TIMEOUT},
    process::eventually,
};
use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};
use reqwest::StatusCode;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{
    content::{MIB, event, file, names, sha256},
    standing::{complete, metric, place, status, whole},
};

/// A file that is whole on every disk, and its digest.
async fn published(cluster: &Cluster, size: u64) -> anyhow::Result<(String, String)> {
    let path = file(cluster, "x.bin", 1, size)?;
    let id = cluster.publish(&path, &[]).await?;
    let digest = sha256(&path)?;
    for n in 0..cluster.servers.len() {
        whole(cluster, n, &id, &digest).await?;
    }
    Ok((id, digest))
}

#[tokio::test]
async fn a_flipped_byte_is_healed_after_a_scrub_was_asked_for() -> anyhow::Result<()> {
    let cluster = Cluster::start(&Plan::zones(&["eu", "eu"])).await?;
    let (id, digest) = published(&cluster, 5 * MIB).await?;
    let blob = std::fs::File::options().read(true).write(true).open(place(&cluster, 0, &id))?;
    let mut byte = [0];
    blob.read_exact_at(&mut byte, 3 * MIB + 17)?;
    blob.write_all_at(&[byte[0] ^ 4], 3 * MIB + 17)?;
    cluster.servers[0].process.as_ref().unwrap().signal(Signal::HUP)?;
    whole(&cluster, 0, &id, &digest).await
}

#[tokio::test]
async fn a_flipped_byte_is_healed_within_a_minute_by_a_scrub_that_nobody_asked_for() -> anyhow::Result<()> {
    let often = vec!["--scrub-every".to_owned(), "3s".to_owned()];
    let cluster = Cluster::start(&Plan { file_server_args: often, ..Plan::zones(&["eu", "eu"]) }).await?;
    let (id, digest) = published(&cluster, 5 * MIB).await?;
    let blob = std::fs::File::options().read(true).write(true).open(place(&cluster, 0, &id))?;
    // After the first round, so that another one is due.
    tokio::time::sleep(Duration::from_secs(4)).await;
    let mut byte = [0];
    blob.read_exact_at(&mut byte, 2 * MIB + 5)?;
    blob.write_all_at(&[byte[0] ^ 1], 2 * MIB + 5)?;
    whole(&cluster, 0, &id, &digest).await?;
    assert_eq!(metric(&cluster, 0, "quarantined_chunks_total").await?, 1);
    Ok(())
}

#[tokio::test]
async fn a_truncated_blob_and_a_wiped_folder_are_healed_while_nobody_asks_for_them() -> anyhow::Result<()> {
    let cluster = Cluster::start(&Plan::zones(&["eu", "eu"])).await?;
    let (id, digest) = published(&cluster, 5 * MIB).await?;
    std::fs::File::options().write(true).open(place(&cluster, 0, &id))?.set_len(MIB)?;
    whole(&cluster, 0, &id, &digest).await?;
    std::fs::remove_dir_all(cluster.path("file-server-0/files"))?;
    std::fs::remove_dir_all(cluster.path("file-server-0/partial"))?;
    whole(&cluster, 0, &id, &digest).await?;
    event(&cluster.run_client(&["--json", "-o", "got.bin", &id]).await?, "done")?;
    assert_eq!(sha256(&cluster.path("got.bin"))?, digest);
    Ok(())
}

#[tokio::test]
async fn a_replication_that_is_killed_again_and_again_ends_whole_and_leaves_nothing() -> anyhow::Result<()> {
    const SIZE: u64 = 24 * MIB;
    let mut random = SmallRng::seed_from_u64(ddm_testkit::seed());
    let limited = vec!["--max-rate".to_owned(), "6MiB".to_owned()];
    let mut cluster = Cluster::start(&Plan { file_server_args: limited, ..Plan::zones(&["eu", "eu"]) }).await?;
    let (id, digest) = published(&cluster, SIZE).await?;
    cluster.take_server(1)?.kill().await?;
    std::fs::remove_file(place(&cluster, 1, &id))?;
    let mut interrupted = 0;
    for _ in 0..4 {
        cluster.restart_server(1).await?;
        tokio::time::sleep(Duration::from_millis(random.random_range(200..1800))).await;
        // Nothing stands under the final name before it is whole.
        let found = sha256(&place(&cluster, 1, &id)).ok();
        assert!(found.is_none_or(|found| found == digest));
        interrupted += usize::from(cluster.path("file-server-1/partial").join(&id).exists());
        cluster.take_server(1)?.kill().await?;
    }
    cluster.restart_server(1).await?;
    whole(&cluster, 1, &id, &digest).await?;
    assert!(interrupted > 0, "no kill met the replication");
    // The mark of the folder is all that is left.
    assert_eq!(names(&cluster.path("file-server-1/partial"))?, [".ddm-data-folder"]);
    let metadata = std::fs::metadata(place(&cluster, 1, &id))?;
    assert!(metadata.blocks() * 512 <= SIZE + MIB, "no more room than the file's");
    Ok(())
}

#[tokio::test]
async fn an_upload_survives_a_kill_of_everything_right_after_its_acknowledgement() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(&Plan::zones(&["eu", "eu"])).await?;
    let path = file(&cluster, "x.bin", 3, 5 * MIB)?;
    let id = cluster.publish(&path, &[]).await?;
    let info = cluster.info.take().unwrap();
    let (first, second) = (cluster.take_server(0)?, cluster.take_server(1)?);
    let (info, first, second) = tokio::join!(info.kill(), first.kill(), second.kill());
    info.and(first).and(second)?;
    cluster.restart_info().await?;
    for n in 0..2 {
        cluster.restart_server(n).await?;
        whole(&cluster, n, &id, &sha256(&path)?).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_spoiled_chunk_is_served_to_nobody_while_it_cannot_be_fetched_and_comes_back_when_it_can()
-> anyhow::Result<()> {
    let cluster = Cluster::start(&Plan::zones(&["eu", "eu"])).await?;
    let (id, digest) = published(&cluster, 5 * MIB).await?;
    let details = cluster.details(&id).await?;
    let locations = details["locations"].as_array().unwrap();
    let here = locations.iter().find(|location| location["server"] == cluster.servers[0].id.as_str()).unwrap();
    let (url, token) = (here["url"].as_str().unwrap(), details["download"]["token"].as_str().unwrap());
    let chunk = async |n: u64| {
        let range = format!("bytes={}-{}", n * MIB, (n + 1) * MIB - 1);
        let get = cluster.http.get(url).bearer_auth(token).header("Range", range);
        anyhow::Ok(get.send().await?.status())
    };
    assert_eq!(chunk(3).await?, StatusCode::PARTIAL_CONTENT);
    // The only other holder says nothing for now.
    let other = cluster.servers[1].process.as_ref().unwrap();
    other.signal(Signal::STOP)?;
    let blob = std::fs::File::options().read(true).write(true).open(place(&cluster, 0, &id))?;
    let mut byte = [0];
    blob.read_exact_at(&mut byte, 3 * MIB + 17)?;
    blob.write_all_at(&[byte[0] ^ 4], 3 * MIB + 17)?;
    cluster.servers[0].process.as_ref().unwrap().signal(Signal::HUP)?;
    eventually(
        "it is quarantined",
        STEP_TIMEOUT,
        async || Ok((chunk(3).await? == StatusCode::NOT_FOUND).then_some(())),
    )
    .await?;
    assert_eq!(chunk(2).await?, StatusCode::PARTIAL_CONTENT, "its neighbours are as good as ever");
    eventually("it is said", STEP_TIMEOUT, async || {
        Ok((complete(&cluster, &id).await?.iter().all(|n| *n != 0)).then_some(()))
    })
    .await?;
    assert_eq!(chunk(3).await?, StatusCode::NOT_FOUND);
    other.signal(Signal::CONT)?;
    whole(&cluster, 0, &id, &digest).await?;
    eventually("it is served again", STEP_TIMEOUT, async || {
        Ok((chunk(3).await? == StatusCode::PARTIAL_CONTENT).then_some(()))
    })
    .await
}

/// Waits until a chunk is on no server, everywhere that it is said, or until that is said nowhere any more.
async fn lost_chunks_are(cluster: &Cluster, id: &str, lost: Value) -> anyhow::Result<()> {
    let missing = if lost == json!([]) {
        Value::Null
    } else {
        let lost_by = |n: usize| json!({ "server": cluster.servers[n].id, "chunks": lost, "reason": "lost" });
        let mut causes = vec![lost_by(0), lost_by(1)];
        causes.sort_by_key(|cause| cause["server"].as_str().map(str::to_owned));
        json!({ "unavailable": lost, "lost": lost, "causes": causes })
    };
    let files = usize::from(!missing.is_null());
    eventually(&format!("{missing} is said"), STEP_TIMEOUT, async || {
        let (details, replicas) = (cluster.details(id).await?, status(cluster, id).await?);
        let ready: Value = cluster.get("/readyz").await?;
        let metrics = cluster.http.get(format!("{}/metrics", cluster.info_url())).send().await?.text().await?;
        let listed = cluster.get("/v1/files").await?;
        let count = json!(files);
        let is_said = details["missing"] == missing
            && replicas["missing"] == missing
            && ready["damaged_files"] == count
            && metrics.contains(&format!("ddm_info_server_damaged_files {files}\n"))
            && listed["files"][0].get("lost_chunks").unwrap_or(&json!(0)) == &count;
        Ok(is_said.then_some(()))
    })
    .await
}

/// Checks that a download of a file without its chunk 3 ends although it may wait, and keeps every other chunk.
async fn ends_at_once_with_all_else(cluster: &Cluster, id: &str, content: &[u8]) -> anyhow::Result<()> {
    let (until, after) = (usize::try_from(3 * MIB)?, usize::try_from(4 * MIB)?);
    for attempt in ["first", "resumed"] {
        let began = Instant::now();
        let got = cluster.run_client(&["get", id, "-o", "got.bin", "--wait", "10m"]).await?;
        let said = String::from_utf8_lossy(&got.stderr).into_owned();
        assert_eq!(got.status.code(), Some(1), "{attempt}: {said}");
        assert!(began.elapsed() < Duration::from_secs(10), "{attempt}: {:?}: {said}", began.elapsed());
        for words in
            ["chunk 3 is on no file server any more; all others are verified in ", "got.bin.part", "publish it again"]
        {
            assert!(said.contains(words), "{attempt}: {words}: {said}");
        }
        assert!(!said.contains("aiting for"), "{attempt}: it waits for nothing: {said}");
        let part = std::fs::read(cluster.path("got.bin.part"))?;
        assert!(part[..until] == content[..until] && part[after..] == content[after..], "{attempt}: all else is there");
    }
    let piped = cluster.run_client(&["get", id, "-o", "-", "--wait", "10m"]).await?;
    assert_eq!(piped.status.code(), Some(1));
    assert!(piped.stdout == content[..until], "{} bytes came through", piped.stdout.len());
    Ok(())
}

#[tokio::test]
async fn a_chunk_that_every_replica_lost_is_named_everywhere_until_it_is_back() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(&Plan::zones(&["eu", "eu"])).await?;
    let (id, digest) = published(&cluster, 5 * MIB).await?;
    let third = cluster.path("intact");
    std::fs::copy(place(&cluster, 0, &id), &third)?;
    // What one server repairs from the other would not be lost.
    for n in 0..2 {
        cluster.take_server(n)?.stop().await?;
        let blob = std::fs::File::options().write(true).open(place(&cluster, n, &id))?;
        blob.write_all_at(b"spoiled", 3 * MIB + 17)?;
    }
    for n in 0..2 {
        cluster.restart_server(n).await?;
        cluster.servers[n].process.as_ref().unwrap().signal(Signal::HUP)?;
    }
    lost_chunks_are(&cluster, &id, json!([[3, 4]])).await?;
    let text = |output: std::process::Output| String::from_utf8_lossy(&output.stdout).into_owned();
    for command in ["replicas", "info"] {
        let said = text(cluster.run_client(&[command, &id]).await?);
        assert!(said.contains("chunk 3 is on no file server any more"), "{said}");
        assert!(
            cluster.servers.iter().all(|server| said.contains(&format!("{} found chunk 3 damaged", server.id))),
            "{said}"
        );
    }
    ends_at_once_with_all_else(&cluster, &id, &std::fs::read(&third)?).await?;
    let listed = text(cluster.run_client(&["list"]).await?);
    assert!(listed.contains("damaged"), "{listed}");
    let audit = cluster.get("/v1/audit?kind=chunks-lost").await?;
    assert_eq!(audit["entries"][0]["subject"], id.as_str(), "{audit}");
    let log = std::fs::read_to_string(cluster.path("info-server.log"))?;
    assert_eq!(log.matches("are on no file server any more").count(), 1, "{log}");
    // A blob whose bytes are right again is found by the next start, as a disk that comes back.
    cluster.take_server(0)?.stop().await?;
    std::fs::remove_file(cluster.path(&format!("file-server-0/partial/{id}")))?;
    std::fs::copy(&third, place(&cluster, 0, &id))?;
    std::fs::remove_file(cluster.path("file-server-0/file-server.db"))?;
    cluster.restart_server(0).await?;
    lost_chunks_are(&cluster, &id, json!([])).await?;
    whole(&cluster, 1, &id, &digest).await
}
