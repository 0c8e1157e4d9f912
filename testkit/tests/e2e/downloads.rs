//! S11, S12, S17–S20, P4, P11: downloads on good days.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use ddm_testkit::{
    cluster::{Cluster, Plan, events, finish},
    process::{eventually, peak_resident},
};

use crate::content::{MIB, event, file, finish_measured, names, number, sha256, source};

const RATE: u32 = 8 << 20;

fn proxied(zones: &[&'static str]) -> Plan {
    Plan { proxied: true, ..Plan::zones(zones) }
}

pub(crate) async fn replicated(cluster: &Cluster, id: &str, count: u64) -> anyhow::Result<()> {
    eventually("every target has reported", Duration::from_secs(30), async || {
        let details = cluster.get(&format!("/v1/files/{id}?grant=false")).await?;
        Ok((number(&details["live_replicas"]) == count).then_some(()))
    })
    .await
}

#[tokio::test]
async fn files_of_every_interesting_size_arrive_intact() -> anyhow::Result<()> {
    let cluster = Cluster::start(&Plan::zones(&["eu", "eu", "eu"])).await?;
    for size in [0, 1, MIB - 1, MIB, MIB + 1, 17_800_000] {
        let path = file(&cluster, &format!("{size}.bin"), size, size)?;
        let id = cluster.publish(&path, &[]).await?;
        let output = cluster.run_client(&["--json", "-o", "got.bin", "-f", &id]).await?;
        let done = event(&output, "done").context(size)?;
        assert_eq!(sha256(&cluster.path("got.bin"))?, sha256(&path)?, "{size}");
        assert_eq!(number(&done["report"]["fetched"]), size);
        let shares = done["report"]["sources"].as_array().unwrap().iter().map(|s| number(&s["share_permille"]));
        assert_eq!(shares.sum::<u64>(), if size == 0 { 0 } else { 1000 }, "{done}");
    }
    Ok(())
}

#[tokio::test]
async fn a_file_beyond_4_gib_arrives_intact_with_flat_memory() -> anyhow::Result<()> {
    let size = (4 << 30) + 1;
    let cluster = Cluster::start(&Plan::zones(&["eu"])).await?;
    let path = cluster.path("huge.bin");
    // Sparse, but for a mark beyond what 32 bits can address.
    let sparse = std::fs::File::create(&path)?;
    sparse.set_len(size)?;
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"beyond 4 GiB", size - 12)?;
    let id = cluster.publish(&path, &["--quorum", "1"]).await?;
    let client = cluster.spawn_client(&["--json", "-o", "got.bin", &id])?;
    let (output, peak) = finish_measured(client).await?;
    event(&output, "done")?;
    assert_eq!(sha256(&cluster.path("got.bin"))?, sha256(&path)?);
    assert!(peak > 0 && peak <= 64 * MIB, "the client took {} MiB", peak / MIB);
    let server = peak_resident(cluster.servers[0].process.as_ref().unwrap().pid()?)?;
    assert!(server <= 96 * MIB, "the file server took {} MiB", server / MIB);
    Ok(())
}

#[tokio::test]
async fn several_chunks_are_in_flight_at_once_and_several_at_each_server() -> anyhow::Result<()> {
    let cluster = Cluster::start(&proxied(&["eu", "eu"])).await?;
    let path = file(&cluster, "x.bin", 1, 24 * MIB)?;
    let id = cluster.publish(&path, &[]).await?;
    replicated(&cluster, &id, 2).await?;
    for server in &cluster.servers {
        let proxy = server.proxy.as_ref().unwrap();
        proxy.limit(Some(RATE));
        // The upload had several, too.
        proxy.count_anew();
    }
    let output = cluster.run_client(&["--json", "-o", "got.bin", "--connections", "3", &id]).await?;
    let done = event(&output, "done")?;
    assert_eq!(sha256(&cluster.path("got.bin"))?, sha256(&path)?);
    for server in &cluster.servers {
        assert!(number(&source(&done, &server.id)?["bytes"]) >= 4 * MIB, "{done}");
        // Heartbeats go the other way; only the client is connected here.
        assert!(server.proxy.as_ref().unwrap().most_open() >= 3);
    }
    Ok(())
}

#[tokio::test]
async fn the_fast_server_gives_more_and_the_whole_is_sooner_than_an_equal_split() -> anyhow::Result<()> {
    let cluster = Cluster::start(&proxied(&["eu", "eu"])).await?;
    let path = file(&cluster, "x.bin", 2, 48 * MIB)?;
    let id = cluster.publish(&path, &[]).await?;
    replicated(&cluster, &id, 2).await?;
    let (fast, slow) = (&cluster.servers[0], &cluster.servers[1]);
    fast.proxy.as_ref().unwrap().limit(Some(4 * RATE));
    slow.proxy.as_ref().unwrap().limit(Some(RATE / 4));
    let done = event(&cluster.run_client(&["--json", "-o", "got.bin", &id]).await?, "done")?;
    assert_eq!(sha256(&cluster.path("got.bin"))?, sha256(&path)?);
    let (much, little) = (number(&source(&done, &fast.id)?["bytes"]), number(&source(&done, &slow.id)?["bytes"]));
    assert!(much > 3 * little, "{done}");
    let equal_split = (24 * MIB) as f64 / f64::from(RATE / 4);
    let elapsed = done["report"]["elapsed"].as_f64().unwrap();
    assert!(elapsed < equal_split / 2.0, "{elapsed} s, an equal split takes {equal_split} s");
    Ok(())
}

#[tokio::test]
async fn three_servers_capped_alike_are_almost_three_times_as_fast_as_one() -> anyhow::Result<()> {
    let cluster = Cluster::start(&proxied(&["eu", "eu", "eu"])).await?;
    let path = file(&cluster, "x.bin", 3, 72 * MIB)?;
    let id = cluster.publish(&path, &[]).await?;
    replicated(&cluster, &id, 3).await?;
    for server in &cluster.servers {
        server.proxy.as_ref().unwrap().limit(Some(RATE));
    }
    let elapsed = async |name: &str| {
        let done = event(&cluster.run_client(&["--json", "-f", "-o", name, &id]).await?, "done")?;
        done["report"]["elapsed"].as_f64().context("a time")
    };
    // What else the machine does only ever adds to a time, and most to the short one.
    let mut three = f64::INFINITY;
    for _ in 0..3 {
        three = three.min(elapsed("three.bin").await?);
    }
    for server in &cluster.servers[1..] {
        server.proxy.as_ref().unwrap().spoil(ddm_testkit::proxy::Fault::Refuse);
    }
    let one = elapsed("one.bin").await?;
    assert_eq!(sha256(&cluster.path("three.bin"))?, sha256(&path)?);
    assert!(one / three >= 2.8, "three servers: {three} s, one: {one} s");
    Ok(())
}

#[tokio::test]
async fn servers_of_my_zone_come_first_and_others_when_they_die() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(&proxied(&["eu", "us"])).await?;
    let path = file(&cluster, "x.bin", 4, 24 * MIB)?;
    let id = cluster.publish(&path, &[]).await?;
    replicated(&cluster, &id, 2).await?;
    let done = event(&cluster.run_client(&["--json", "--zone", "us", "-o", "near.bin", &id]).await?, "done")?;
    assert_eq!(number(&source(&done, &cluster.servers[1].id)?["bytes"]), 24 * MIB, "{done}");

    cluster.servers[1].proxy.as_ref().unwrap().limit(Some(RATE));
    let client = cluster.spawn_client(&["--json", "--zone", "us", "-o", "far.bin", &id])?;
    let passed = cluster.servers[1].proxy.as_ref().unwrap().passed();
    eventually("the near server is giving", Duration::from_secs(20), async || {
        Ok((cluster.servers[1].proxy.as_ref().unwrap().passed() > passed + 4 * MIB).then_some(()))
    })
    .await?;
    cluster.take_server(1)?.kill().await?;
    let done = event(&finish(client).await?, "done")?;
    assert_eq!(sha256(&cluster.path("far.bin"))?, sha256(&path)?);
    let (near, far) = (&cluster.servers[1].id, &cluster.servers[0].id);
    assert!(number(&source(&done, near)?["bytes"]) > 0 && number(&source(&done, far)?["bytes"]) > 0, "{done}");
    Ok(())
}

#[tokio::test]
async fn the_watcher_sees_chunks_per_cent_rate_and_remaining_time_and_a_report_at_the_end() -> anyhow::Result<()> {
    let cluster = Cluster::start(&proxied(&["eu", "eu"])).await?;
    let path = file(&cluster, "x.bin", 5, 48 * MIB)?;
    let id = cluster.publish(&path, &[]).await?;
    replicated(&cluster, &id, 2).await?;
    for server in &cluster.servers {
        server.proxy.as_ref().unwrap().limit(Some(RATE));
    }
    let output = cluster.run_client(&["--json", "-o", "got.bin", &id]).await?;
    let progress: Vec<_> = events(&output)?.into_iter().filter(|event| event["event"] == "progress").collect();
    let done: Vec<u64> = progress.iter().map(|event| number(&event["chunks_done"])).collect();
    assert!(done.len() >= 3 && done.is_sorted(), "{done:?}");
    assert!(progress.iter().all(|event| event["chunks_total"] == 48));
    assert!(progress.iter().any(|event| (1..100).contains(&number(&event["percent"]))));
    assert!(progress.iter().any(|event| number(&event["bytes_per_second"]) > 0));
    assert!(progress.iter().any(|event| event["remaining_seconds"].as_f64().is_some_and(|left| left > 0.0)));
    let report = &event(&output, "done")?["report"];
    let sources = report["sources"].as_array().unwrap();
    assert_eq!(sources.iter().map(|source| number(&source["share_permille"])).sum::<u64>(), 1000);
    assert_eq!(sources.iter().map(|source| number(&source["bytes"])).sum::<u64>(), 48 * MIB);

    let shown = cluster.run_client(&["-o", "again.bin", &id]).await?;
    let lines = String::from_utf8(shown.stderr)?;
    assert!(
        lines.lines().any(|line| line.contains("of 48 chunks") && line.contains('%') && line.contains("left")),
        "{lines}"
    );
    let text = String::from_utf8(shown.stdout)?;
    for server in &cluster.servers {
        assert!(text.lines().any(|line| line.contains(&server.id) && line.contains('%')), "{text}");
    }
    Ok(())
}

#[tokio::test]
async fn a_killed_client_resumes_and_trusts_no_chunk_that_it_did_not_check() -> anyhow::Result<()> {
    let cluster = Cluster::start(&proxied(&["eu", "eu"])).await?;
    let path = file(&cluster, "x.bin", 6, 48 * MIB)?;
    let id = cluster.publish(&path, &[]).await?;
    replicated(&cluster, &id, 2).await?;
    for server in &cluster.servers {
        server.proxy.as_ref().unwrap().limit(Some(RATE));
    }
    // The published copy has the name that the client will use: it is moved out of the way.
    let original = cluster.path("original");
    std::fs::rename(&path, &original)?;
    let passed = || cluster.servers.iter().map(|server| server.proxy.as_ref().unwrap().passed()).sum::<u64>();
    let before = passed();
    let mut client = cluster.spawn_client(&["--json", &id])?;
    eventually("a good part is there", Duration::from_secs(20), async || {
        Ok((passed() - before > 24 * MIB).then_some(()))
    })
    .await?;
    let sent = passed() - before;
    client.kill().await?;
    assert!(cluster.path("x.bin.part").exists() && !path.exists());
    // A chunk that was verified is spoilt meanwhile.
    let part = std::fs::File::options().write(true).open(cluster.path("x.bin.part"))?;
    std::os::unix::fs::FileExt::write_all_at(&part, b"spoilt", 100)?;
    for server in &cluster.servers {
        server.proxy.as_ref().unwrap().limit(None);
    }
    let done = event(&cluster.run_client(&["--json", &id]).await?, "done")?;
    assert_eq!(sha256(&path)?, sha256(&original)?);
    let (resumed, fetched) = (number(&done["report"]["resumed"]), number(&done["report"]["fetched"]));
    assert_eq!(resumed + fetched, 48 * MIB);
    // Lost are the spoilt chunk and what was in flight: a chunk in each of 4 requests at each of two servers, and what
    // their sockets held.
    assert!(resumed + 12 * MIB >= sent, "{sent} bytes were sent before: {done}");
    assert!(!cluster.path("x.bin.part").exists());
    Ok(())
}

#[tokio::test]
async fn the_client_writes_nothing_but_what_it_was_told_to() -> anyhow::Result<()> {
    let cluster = Cluster::start(&Plan::zones(&["eu", "eu"])).await?;
    let path = file(&cluster, "x.bin", 7, 3 * MIB)?;
    let id = cluster.publish(&path, &[]).await?;
    let (target, parts) = (cluster.path("target"), cluster.path("parts"));
    std::fs::create_dir(&target)?;
    std::fs::create_dir(&parts)?;
    let before = names(&cluster.path(""))?;
    let (into, aside) = (target.display().to_string(), parts.display().to_string());
    let output = cluster.run_client(&["-o", &into, "--partial-dir", &aside, &id]).await?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(names(&target)?, ["x.bin"]);
    assert!(names(&parts)?.is_empty());
    assert_eq!(names(&cluster.path(""))?, before);

    // An existing file is not replaced unless the user says so, and a missing folder is not made.
    std::fs::write(target.join("x.bin"), b"mine")?;
    let refused = cluster.run_client(&["-o", &into, &id]).await?;
    assert_eq!(refused.status.code(), Some(1));
    assert_eq!(std::fs::read(target.join("x.bin"))?, b"mine");
    let missing = cluster.run_client(&["-o", &format!("{into}/no/x"), &id]).await?;
    assert_eq!(missing.status.code(), Some(1));
    assert_eq!(names(&target)?, ["x.bin"]);
    // A link that stands where the partial file goes is not followed.
    let bait = cluster.path("bait");
    std::fs::write(&bait, b"untouched")?;
    std::os::unix::fs::symlink(&bait, target.join("y.part"))?;
    let linked = cluster.run_client(&["-o", &format!("{into}/y"), &id]).await?;
    assert_eq!(linked.status.code(), Some(1), "{}", String::from_utf8_lossy(&linked.stderr));
    assert_eq!(std::fs::read(&bait)?, b"untouched");
    Ok(())
}

#[tokio::test]
async fn an_interrupted_download_ends_with_3_and_leaves_no_final_name() -> anyhow::Result<()> {
    let cluster = Cluster::start(&proxied(&["eu", "eu"])).await?;
    let id = cluster.publish(&file(&cluster, "x.bin", 8, 48 * MIB)?, &[]).await?;
    for server in &cluster.servers {
        server.proxy.as_ref().unwrap().limit(Some(RATE / 2));
    }
    let client = cluster.spawn_client(&["--json", "-o", "got.bin", &id])?;
    eventually("the partial file is there", Duration::from_secs(20), async || {
        Ok(cluster.path("got.bin.part").exists().then_some(()))
    })
    .await?;
    let pid = rustix::process::Pid::from_raw(client.id().context("a process id")?.try_into()?).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT)?;
    let asked = Instant::now();
    let output = finish(client).await?;
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(asked.elapsed() < Duration::from_secs(5));
    assert!(!cluster.path("got.bin").exists() && cluster.path("got.bin.part").exists());
    Ok(())
}

#[tokio::test]
async fn five_clients_at_two_servers_all_end_right_and_none_starves() -> anyhow::Result<()> {
    let cluster = Cluster::start(&proxied(&["eu", "eu"])).await?;
    let path = file(&cluster, "x.bin", 9, 16 * MIB)?;
    let id = cluster.publish(&path, &[]).await?;
    replicated(&cluster, &id, 2).await?;
    for server in &cluster.servers {
        server.proxy.as_ref().unwrap().limit(Some(RATE));
    }
    let download = async |n: usize| {
        let name = format!("got-{n}.bin");
        let done = event(&cluster.run_client(&["--json", "-o", &name, &id]).await?, "done")?;
        assert_eq!(sha256(&cluster.path(&name))?, sha256(&path)?);
        done["report"]["elapsed"].as_f64().context("a time")
    };
    let (a, b, c, d, e) = tokio::try_join!(download(0), download(1), download(2), download(3), download(4))?;
    let times = [a, b, c, d, e];
    let (first, last) = times.iter().fold((f64::MAX, 0.0_f64), |(min, max), time| (min.min(*time), max.max(*time)));
    // Five times 16 MiB through 16 MiB/s: 5 s when all get the same.
    assert!(last < 4.0 * first && last < 20.0, "{times:?}");
    Ok(())
}
