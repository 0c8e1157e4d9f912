//! Joint downloads that cannot be finished jointly: a plain download where that is right, a named failure where it is not (S26, P10).

use ddm_testkit::{
    cluster::{Cluster, finish},
    process::eventually,
};
use rustix::process::Signal;
use wire::Digest;

use super::{
    fixture::{SIZE, STEP_TIMEOUT, fetched, job, near, piped, said, signal, stranger, until_noted},
    web::Web,
};
use crate::content::{MIB, bytes, event};

#[tokio::test]
async fn a_job_that_all_workers_fail_at_is_ended_by_a_plain_download() -> anyhow::Result<()> {
    let cluster = Cluster::start(&near(&["eu", "eu"])).await?;
    let web = Web::serve(bytes(1, SIZE)).await?;
    web.limit(2 * MIB);
    let sha256 = Digest::of(&bytes(1, SIZE)).to_string();
    let client = cluster.spawn_client(&["--json", "--sha256", &sha256, &web.url("plain", "x.bin")])?;
    until_noted(&cluster.path("x.bin.part"), 4).await?;
    web.refuse_ranges();
    web.limit(0);
    let output = finish(client).await?;
    let alone = event(&output, "alone")?;
    assert_eq!(alone["reason"], "workers-failed", "{alone}");
    assert_eq!(alone["message"], "every worker failed to fetch the file");
    let done = event(&output, "done")?;
    assert_eq!((&done["checked"], &done["fetched"]["sha256"]), (&"sha256".into(), &sha256.clone().into()), "{done}");
    assert!(std::fs::read(cluster.path("x.bin"))? == bytes(1, SIZE));
    assert!(!cluster.path("x.bin.part").exists());
    Ok(())
}

#[tokio::test]
async fn a_job_whose_workers_are_gone_is_ended_by_a_plain_download() -> anyhow::Result<()> {
    // The info-server waits a minute for one to come back.
    let mut cluster = Cluster::start(&near(&["eu", "eu"])).await?;
    let web = Web::serve(bytes(1, SIZE)).await?;
    web.limit(2 * MIB);
    let client = cluster.spawn_client(&["--json", &web.url("plain", "x.bin")])?;
    let id = job(&cluster).await?["id"].as_str().unwrap().to_owned();
    fetched(&cluster, &id, 4).await?;
    for n in 0..2 {
        cluster.take_server(n)?.kill().await?;
    }
    web.limit(0);
    let output = finish(client).await?;
    assert_eq!(event(&output, "alone")?["reason"], "no-workers");
    event(&output, "done")?;
    assert!(std::fs::read(cluster.path("x.bin"))? == bytes(1, SIZE));
    Ok(())
}

#[tokio::test]
async fn a_content_that_changes_while_it_is_fetched_together_is_a_named_failure() -> anyhow::Result<()> {
    let cluster = Cluster::start(&near(&["eu", "eu"])).await?;
    for (name, size) in [("same.bin", SIZE), ("longer.bin", SIZE + 5 * MIB)] {
        let web = Web::serve(bytes(1, SIZE)).await?;
        web.limit(2 * MIB);
        let url = web.url("plain", name);
        let client = cluster.spawn_client(&["--json", &url])?;
        until_noted(&cluster.path(&format!("{name}.part")), 4).await?;
        web.change(bytes(2, size));
        web.limit(0);
        let output = finish(client).await?;
        let said = said(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("the content changed at the origin while it was fetched"), "{said}");
        assert!(!cluster.path(name).exists());
        // As it says: there is another version now, and all of it comes.
        assert!(said.contains("start again to download the current version"), "{said}");
        event(&cluster.run_client(&["--json", &url]).await?, "done")?;
        assert!(std::fs::read(cluster.path(name))? == bytes(2, size), "{name}");
    }
    Ok(())
}

#[tokio::test]
async fn servers_that_make_two_tags_of_one_content_do_no_harm_where_its_sha256_is_given() -> anyhow::Result<()> {
    let cluster = Cluster::start(&near(&["eu", "eu"])).await?;
    let web = Web::serve(bytes(1, SIZE)).await?;
    let sha256 = Digest::of(&bytes(1, SIZE)).to_string();
    let output = cluster.run_client(&["--json", "--sha256", &sha256, &web.url("two-tags", "x.bin")]).await?;
    assert_eq!(event(&output, "done")?["checked"], "sha256", "{}", said(&output));
    assert!(std::fs::read(cluster.path("x.bin"))? == bytes(1, SIZE));
    Ok(())
}

#[tokio::test]
async fn a_link_that_works_once_is_used_up_by_a_job_which_is_said() -> anyhow::Result<()> {
    let cluster = Cluster::start(&near(&["eu"])).await?;
    let web = Web::serve(bytes(1, SIZE)).await?;
    let output = cluster.run_client(&[&web.url("once", "x.bin")]).await?;
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("get a fresh one and add --direct"), "{}", said(&output));
    Ok(())
}

#[tokio::test]
async fn a_pause_that_an_origin_asks_the_info_server_for_is_kept_by_the_client() -> anyhow::Result<()> {
    let cluster = Cluster::start(&near(&["eu"])).await?;
    let web = Web::serve(bytes(1, SIZE)).await?;
    let begun = std::time::Instant::now();
    let output = cluster.run_client(&["--json", &web.url("busy-once", "x.bin")]).await?;
    assert_eq!(event(&output, "alone")?["reason"], "busy");
    event(&output, "done")?;
    assert!(begun.elapsed() >= std::time::Duration::from_secs(3), "{:?}", begun.elapsed());
    assert_eq!(web.shared.asked.load(std::sync::atomic::Ordering::Relaxed), 2, "one request of each");
    assert!(std::fs::read(cluster.path("x.bin"))? == bytes(1, SIZE));
    Ok(())
}

#[tokio::test]
async fn a_content_that_changes_during_a_plain_download_is_one_version_in_the_end() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    for how in ["plain", "no-validator"] {
        let web = Web::serve(bytes(1, 12 * MIB)).await?;
        web.limit(4 * MIB);
        let url = web.url(how, how);
        let client = piped(stranger(folder.path(), &["--direct", "--json", &url])?)?;
        let part = folder.path().join(format!("{how}.part"));
        eventually("some of it came", STEP_TIMEOUT, async || {
            Ok(std::fs::metadata(&part).is_ok_and(|part| part.len() > 3 * MIB).then_some(()))
        })
        .await?;
        web.change(bytes(2, 11 * MIB));
        web.limit(0);
        event(&finish(client).await?, "done")?;
        assert!(std::fs::read(folder.path().join(how))? == bytes(2, 11 * MIB), "{how}");
    }
    Ok(())
}

#[tokio::test]
async fn a_plain_download_that_breaks_goes_on_and_says_so() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let web = Web::serve(bytes(1, 6 * MIB)).await?;
    web.limit(3 * MIB);
    let client = piped(stranger(folder.path(), &["--direct", &web.url("plain", "x.bin")])?)?;
    let part = folder.path().join("x.bin.part");
    eventually("some of it came", STEP_TIMEOUT, async || {
        Ok(std::fs::metadata(&part).is_ok_and(|part| part.len() > MIB).then_some(()))
    })
    .await?;
    web.cut();
    let before = web.sent();
    let output = finish(client).await?;
    let said = said(&output);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("the origin cannot be reached: trying again"), "{said}");
    assert!(std::fs::read(folder.path().join("x.bin"))? == bytes(1, 6 * MIB));
    assert!(web.sent() - before < 6 * MIB, "it went on: {} bytes more", web.sent() - before);
    Ok(())
}

/// Returns the number of chunks before the first gap that the journal beside a `.part` file states.
fn prefix(part: &std::path::Path) -> u64 {
    let journal = std::fs::read(format!("{}.journal", part.display())).unwrap_or_default();
    let journal: serde_json::Value = serde_json::from_slice(&journal).unwrap_or_default();
    journal["prefix"]["chunks"].as_u64().unwrap_or(0)
}

/// Returns a cluster whose client was interrupted with some chunks of `url` from the first one on.
async fn interrupted(web: &Web) -> anyhow::Result<(Cluster, u64)> {
    let mut cluster = Cluster::start(&near(&["eu", "eu"])).await?;
    web.limit(2 * MIB);
    let client = cluster.spawn_client(&["--json", &web.url("plain", "x.bin")])?;
    let part = cluster.path("x.bin.part");
    eventually("the first chunks are here", STEP_TIMEOUT, async || Ok((prefix(&part) >= 3).then_some(()))).await?;
    signal(&client, Signal::INT)?;
    finish(client).await?;
    for n in 0..2 {
        cluster.take_server(n)?.kill().await?;
    }
    web.limit(0);
    let chunks = prefix(&part);
    Ok((cluster, chunks))
}

#[tokio::test]
async fn what_file_servers_had_fetched_is_continued_directly() -> anyhow::Result<()> {
    let web = Web::serve(bytes(1, SIZE)).await?;
    let (cluster, chunks) = interrupted(&web).await?;
    let sent = web.sent();
    let output = cluster.run_client(&["--json", "--direct", &web.url("plain", "x.bin")]).await?;
    let note = event(&output, "note")?;
    assert!(note["message"].as_str().unwrap().starts_with("Continuing directly after"), "{note}");
    event(&output, "done")?;
    assert!(std::fs::read(cluster.path("x.bin"))? == bytes(1, SIZE));
    let sent = web.sent() - sent;
    assert!(sent <= SIZE - chunks * MIB, "{chunks} chunks were here, and {sent} bytes were sent");
    Ok(())
}

#[tokio::test]
async fn bytes_of_file_servers_that_cannot_be_continued_are_not_dropped_without_a_word() -> anyhow::Result<()> {
    let web = Web::serve(bytes(1, SIZE)).await?;
    let (cluster, _) = interrupted(&web).await?;
    web.change(bytes(2, SIZE));
    let output = cluster.run_client(&["--direct", &web.url("plain", "x.bin")]).await?;
    assert!(said(&output).contains("Starting again from the first byte without the"), "{}", said(&output));
    assert!(std::fs::read(cluster.path("x.bin"))? == bytes(2, SIZE));

    let web = Web::serve(bytes(1, SIZE)).await?;
    let (cluster, _) = interrupted(&web).await?;
    // A power cut, or a program that wrote into the file.
    let part = std::fs::File::options().write(true).open(cluster.path("x.bin.part"))?;
    std::os::unix::fs::FileExt::write_all_at(&part, b"other bytes", MIB)?;
    let output = cluster.run_client(&["--direct", &web.url("plain", "x.bin")]).await?;
    assert!(said(&output).contains("cannot be continued directly"), "{}", said(&output));
    assert!(std::fs::read(cluster.path("x.bin"))? == bytes(1, SIZE));
    Ok(())
}
