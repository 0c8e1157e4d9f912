//! P2, P12, F7, F8, F33: replicas come back by themselves, whatever became of their bytes.

use std::{
    os::unix::fs::{FileExt as _, MetadataExt as _},
    time::Duration,
};

use ddm_testkit::{
    cluster::{Cluster, PATIENCE, Plan},
    process::eventually,
};
use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};
use reqwest::StatusCode;
use rustix::process::Signal;

use crate::{
    content::{MIB, event, file, names, sha256},
    standing::{complete, place, whole},
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
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut random = SmallRng::seed_from_u64(seed);
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
    assert_eq!(names(&cluster.path("file-server-1/partial"))?, Vec::<String>::new());
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
    eventually("it is quarantined", PATIENCE, async || Ok((chunk(3).await? == StatusCode::NOT_FOUND).then_some(())))
        .await?;
    assert_eq!(chunk(2).await?, StatusCode::PARTIAL_CONTENT, "its neighbours are as good as ever");
    eventually("it is said", PATIENCE, async || {
        Ok((complete(&cluster, &id).await?.iter().all(|n| *n != 0)).then_some(()))
    })
    .await?;
    assert_eq!(chunk(3).await?, StatusCode::NOT_FOUND);
    other.signal(Signal::CONT)?;
    whole(&cluster, 0, &id, &digest).await?;
    eventually("it is served again", PATIENCE, async || {
        Ok((chunk(3).await? == StatusCode::PARTIAL_CONTENT).then_some(()))
    })
    .await
}
