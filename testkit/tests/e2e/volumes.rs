//! P3, F37, F38: volumes of file servers that fill up, stall or become read-only. Reads go on, and everything is as before once
//! they are well.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use ddm_testkit::{
    cluster::{Cluster, Plan, STEP_TIMEOUT},
    netns,
    process::{Failing, eventually},
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use wire::Digest;

use crate::{
    content::{MIB, bytes, event, file, sha256},
    standing::{complete, metric, place},
};

/// A volume of its own in memory, which goes with this.
struct Volume(tempfile::TempDir);

impl Volume {
    /// `None`, and a line that says so, where rows that need the right to mount are left out.
    fn mount(size: &str) -> anyhow::Result<Option<Self>> {
        if std::env::var_os(netns::SWITCH).is_some_and(|switch| !switch.is_empty() && switch != "0") {
            eprintln!("left out: {} is set", netns::SWITCH);
            return Ok(None);
        }
        let volume = Self(tempfile::tempdir()?);
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "none"]).arg(volume.0.path());
        ensure!(mount.status()?.success(), "this row mounts a volume: run it as root, or use ./test --no-netns");
        Ok(Some(volume))
    }

    fn path(&self) -> PathBuf {
        self.0.path().to_owned()
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

/// An upload of two chunks that has begun.
struct Begun {
    chunks: Vec<Vec<u8>>,
    url: String,
    token: String,
}

impl Begun {
    async fn announce(cluster: &Cluster) -> anyhow::Result<Self> {
        let body = json!({ "name": "begun.bin", "size": 2 * MIB, "quorum": 1, "policy": { "replicas": 1 } });
        let made = cluster.request(Method::POST, "/v1/files").json(&body).send().await?;
        let made: Value = made.error_for_status()?.json().await?;
        let text = |value: &Value| value.as_str().map(str::to_owned).context("a text");
        let (url, token) = (text(&made["targets"][0]["url"])?, text(&made["upload"]["token"])?);
        Ok(Self { chunks: bytes(77, 2 * MIB).chunks(MIB as usize).map(<[u8]>::to_vec).collect(), url, token })
    }

    async fn put(&self, cluster: &Cluster, n: usize) -> anyhow::Result<StatusCode> {
        let put = cluster.http.put(format!("{}/{n}", self.url)).bearer_auth(&self.token);
        let put = put.header("Content-Digest", Digest::of(&self.chunks[n]).to_field());
        Ok(put.body(self.chunks[n].clone()).send().await?.status())
    }
}

#[tokio::test]
async fn a_volume_that_fills_up_refuses_uploads_and_serves_on_and_takes_them_again_by_itself() -> anyhow::Result<()> {
    let Some(volume) = Volume::mount("400m")? else { return Ok(()) };
    let plan = Plan { folder: Some(volume.path()), ..Plan::zones(&["eu"]) };
    let cluster = Cluster::start(&plan).await?;
    let path = file(&cluster, "x.bin", 1, 4 * MIB)?;
    let policy = ["--quorum", "1", "--replicas", "1"];
    let id = cluster.publish(&path, &policy).await?;
    let begun = Begun::announce(&cluster).await?;
    assert_eq!(begun.put(&cluster, 0).await?, StatusCode::CREATED);
    // Less than the reserve of 64 MiB is left, and more than the info-server's database needs.
    let free = rustix::fs::statvfs(volume.path())?;
    let filler = volume.path().join("filler");
    let size = free.f_bavail * free.f_frsize - 40 * MIB;
    std::fs::write(&filler, vec![1; usize::try_from(size)?])?;
    eventually("the server notices", STEP_TIMEOUT, async || {
        Ok((metric(&cluster, 0, "low_on_room").await? == 1).then_some(()))
    })
    .await?;
    assert_eq!(begun.put(&cluster, 1).await?, StatusCode::INSUFFICIENT_STORAGE);
    eventually("the info-server knows it", STEP_TIMEOUT, async || {
        let body = json!({ "name": "y.bin", "size": MIB, "quorum": 1, "policy": { "replicas": 1 } });
        let made = cluster.request(Method::POST, "/v1/files").json(&body).send().await?;
        Ok((made.status() == StatusCode::CONFLICT).then_some(()))
    })
    .await?;
    let refused =
        cluster.run_client(&[&["publish", "--again", "x.bin", "--name", "y.bin"], &policy[..]].concat()).await?;
    let stderr = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(stderr.contains("the quorum needs 1 file server, 0 live with room for the file"), "{stderr}");
    let got = tempfile::tempdir()?;
    let target = got.path().join("got.bin").display().to_string();
    event(&cluster.run_client(&["--json", "-o", &target, &id]).await?, "done")?;
    assert_eq!(sha256(&got.path().join("got.bin"))?, sha256(&path)?);

    std::fs::remove_file(&filler)?;
    eventually("uploads are taken again", STEP_TIMEOUT, async || {
        Ok((begun.put(&cluster, 1).await? == StatusCode::CREATED).then_some(()))
    })
    .await?;
    eventually("files are published again", STEP_TIMEOUT, async || {
        Ok(cluster.publish(&path, &[&policy[..], &["--name", "z.bin"]].concat()).await.ok())
    })
    .await?;
    drop(cluster);
    Ok(())
}

#[tokio::test]
async fn a_volume_that_stalls_holds_up_its_uploads_and_nobody_elses_reads() -> anyhow::Result<()> {
    let cluster = Cluster::start(&Plan::zones(&["eu"])).await?;
    let path = file(&cluster, "x.bin", 2, 4 * MIB)?;
    let id = cluster.publish(&path, &["--quorum", "1", "--replicas", "1"]).await?;
    let details = cluster.details(&id).await?;
    let (url, token) = (details["locations"][0]["url"].as_str(), details["download"]["token"].as_str());
    let (url, token) = (url.context("a url")?, token.context("a token")?);
    let read = async || {
        let started = Instant::now();
        let answer = cluster.http.get(url).bearer_auth(token).send().await?;
        let (status, content) = (answer.status(), answer.bytes().await?);
        assert_eq!((status, Digest::of(&content).to_string()), (StatusCode::OK, sha256(&path)?));
        anyhow::Ok(started.elapsed())
    };
    read().await?;
    let begun = Begun::announce(&cluster).await?;
    assert_eq!(begun.put(&cluster, 0).await?, StatusCode::CREATED);
    let pid = cluster.servers[0].process.as_ref().unwrap().pid()?;
    // Each sync takes 15 s, longer than a request has to wait for a disk.
    let stalled = Failing::new(Failing::SYNCS, "EIO:delay_enter=15000000", "1+").attach(pid).await?;
    let (put, reads) = tokio::join!(begun.put(&cluster, 1), async {
        let mut slowest = Duration::ZERO;
        for _ in 0..20 {
            slowest = slowest.max(read().await?);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        anyhow::Ok(slowest)
    });
    let (put, slowest) = (put?, reads?);
    println!("an upload was answered {put}, the slowest read took {slowest:?}");
    assert!(put.is_server_error(), "{put}");
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
    cluster.excuse(ddm_testkit::history::Promise::NoInternalErrors, "the disk fails on purpose");
    stalled.detach().await?;
    eventually("uploads are taken again", 2 * STEP_TIMEOUT, async || {
        let put = begun.put(&cluster, 1).await?;
        Ok(put.is_success().then_some(()))
    })
    .await
}

/// Drops what the page cache holds of a file.
fn forget(path: &Path) -> anyhow::Result<()> {
    let file = std::fs::File::open(path)?;
    file.sync_all()?;
    Ok(rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?)
}

#[tokio::test]
async fn a_read_that_waits_for_its_disk_holds_up_nobody_elses_and_a_cold_one_is_right() -> anyhow::Result<()> {
    let cluster = Cluster::start(&Plan::zones(&["eu"])).await?;
    let mut files = Vec::new();
    for n in 0..2 {
        let path = file(&cluster, &format!("{n}.bin"), n, 8 * MIB)?;
        let id = cluster.publish(&path, &["--quorum", "1", "--replicas", "1"]).await?;
        files.push((cluster.details(&id).await?, sha256(&path)?, place(&cluster, 0, &id)));
    }
    let read = async |n: usize| {
        let (details, ..) = &files[n];
        let url = details["locations"][0]["url"].as_str().context("a url")?;
        let token = details["download"]["token"].as_str().context("a token")?;
        let answer = cluster.http.get(url).bearer_auth(token).send().await?;
        anyhow::Ok(Digest::of(&answer.bytes().await?).to_string())
    };
    let cold = async || metric(&cluster, 0, "cold_reads_total").await;
    let before = cold().await?;
    forget(&files[0].2)?;
    assert_eq!(read(0).await?, files[0].1);
    assert!(cold().await? > before, "all of it was in memory: nothing is shown");
    read(1).await?;

    cluster.excuse(ddm_testkit::history::Promise::NoInternalErrors, "the disk fails on purpose");
    forget(&files[0].2)?;
    let pid = cluster.servers[0].process.as_ref().unwrap().pid()?;
    let path = Some(files[0].2.clone());
    let stalled = Failing { path, ..Failing::new("pread64", "EIO:delay_enter=5000000", "1+") }.attach(pid).await?;
    let (waiting, slowest) = tokio::join!(async { futures::future::join_all((0..4).map(|_| read(0))).await }, async {
        let mut slowest = Duration::ZERO;
        for _ in 0..20 {
            let asked = Instant::now();
            assert_eq!(read(1).await?, files[1].1);
            slowest = slowest.max(asked.elapsed());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        anyhow::Ok(slowest)
    });
    let slowest = slowest?;
    println!("the slowest read beside it took {slowest:?}");
    assert!(waiting.iter().all(Result::is_err), "bytes that the disk did not give: {waiting:?}");
    assert!(slowest < Duration::from_secs(3), "{slowest:?}");
    stalled.detach().await?;
    eventually("it is served again", 2 * STEP_TIMEOUT, async || {
        Ok(read(0).await.is_ok_and(|found| found == files[0].1).then_some(()))
    })
    .await
}

#[tokio::test]
async fn a_list_of_chunks_waits_no_longer_for_a_disk_than_other_requests_do() -> anyhow::Result<()> {
    let file_server_args = vec!["--open-files".to_owned(), "1".to_owned()];
    let cluster = Cluster::start(&Plan { file_server_args, ..Plan::zones(&["eu"]) }).await?;
    let mut files = Vec::new();
    for n in 0..2 {
        let path = file(&cluster, &format!("{n}.bin"), n, MIB)?;
        let id = cluster.publish(&path, &["--quorum", "1", "--replicas", "1"]).await?;
        files.push((cluster.details(&id).await?, place(&cluster, 0, &id)));
    }
    let get = async |n: usize, route: &str| {
        let (details, _) = &files[n];
        let url = details["locations"][0]["url"].as_str().context("a url")?.replace("/content", route);
        let token = details["download"]["token"].as_str().context("a token")?;
        anyhow::Ok(cluster.http.get(url).bearer_auth(token).send().await?.status())
    };
    assert_eq!((get(0, "/chunks").await?, get(1, "/content").await?), (StatusCode::OK, StatusCode::OK));
    cluster.excuse(ddm_testkit::history::Promise::NoInternalErrors, "the disk fails on purpose");
    // The second file has taken the place of the first among those that are open.
    let path = Some(files[0].1.clone());
    let pid = cluster.servers[0].process.as_ref().unwrap().pid()?;
    let stalled = Failing { path, ..Failing::new("openat", "EIO:delay_enter=20000000", "1+") }.attach(pid).await?;
    let asked = Instant::now();
    let status = get(0, "/chunks").await?;
    assert!(asked.elapsed() < Duration::from_secs(15), "{status} after {:?}", asked.elapsed());
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    stalled.detach().await
}

/// A folder in which nothing can be made while this lives.
struct ReadOnly(PathBuf);

impl ReadOnly {
    fn make(folder: &Path) -> anyhow::Result<Self> {
        for options in [&["--bind"][..], &["-o", "remount,bind,ro"]] {
            let mut mount = Command::new("mount");
            let sources: &[&Path] = if options[0] == "--bind" { &[folder, folder] } else { &[folder] };
            ensure!(
                mount.args(options).args(sources).status()?.success(),
                "{} cannot be made read-only",
                folder.display()
            );
        }
        Ok(Self(folder.to_owned()))
    }
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test]
async fn what_a_read_only_volume_was_to_receive_is_placed_elsewhere_and_what_it_holds_is_served() -> anyhow::Result<()>
{
    let Some(volume) = Volume::mount("400m")? else { return Ok(()) };
    let plan = Plan { folder: Some(volume.path()), ..Plan::zones(&["eu", "eu", "eu", "eu"]) };
    let cluster = Cluster::start(&plan).await?;
    cluster.excuse(ddm_testkit::history::Promise::NoInternalErrors, "a disk takes no writes on purpose");
    let path = file(&cluster, "x.bin", 3, 2 * MIB)?;
    let everywhere = cluster.publish(&path, &["--replicas", "4", "--quorum", "4", "--wait"]).await?;
    let read_only = ReadOnly::make(&cluster.path("file-server-0/partial"))?;
    // Before the info-server noticed: some of these are meant for that server.
    let mut files = Vec::new();
    for n in 0..6 {
        let name = format!("{n}.bin");
        files.push(cluster.publish(&path, &["--name", &name, "--replicas", "3", "--quorum", "1"]).await?);
    }
    for id in &files {
        eventually("three others hold all of it", 4 * STEP_TIMEOUT, async || {
            Ok((complete(&cluster, id).await? == [1, 2, 3]).then_some(()))
        })
        .await?;
    }
    assert_eq!(metric(&cluster, 0, "volume_failing").await?, 1);
    let details = cluster.details(&everywhere).await?;
    let mut locations = details["locations"].as_array().context("locations")?.iter();
    let here =
        locations.find(|it| it["server"] == cluster.servers[0].id.as_str()).context("what it holds is served")?;
    let got = cluster.http.get(here["url"].as_str().context("a url")?);
    let got = got.bearer_auth(details["download"]["token"].as_str().context("a token")?).send().await?;
    assert_eq!(Digest::of(&got.error_for_status()?.bytes().await?).to_string(), sha256(&path)?);

    drop(read_only);
    eventually("it takes files again", STEP_TIMEOUT, async || {
        Ok(cluster.publish(&path, &["--name", "again.bin", "--replicas", "4", "--quorum", "4"]).await.ok())
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn a_read_only_volume_keeps_nothing_from_the_other_servers_of_its_zone() -> anyhow::Result<()> {
    let Some(volume) = Volume::mount("400m")? else { return Ok(()) };
    let plan = Plan { folder: Some(volume.path()), ..Plan::zones(&["eu", "us", "us"]) };
    let cluster = Cluster::start(&plan).await?;
    cluster.excuse(ddm_testkit::history::Promise::NoInternalErrors, "a disk takes no writes on purpose");
    let path = file(&cluster, "x.bin", 4, 2 * MIB)?;
    let _read_only = ReadOnly::make(&cluster.path("file-server-1/partial"))?;
    let mut files = Vec::new();
    // The server that is to fetch a file into the zone is drawn by the file's id.
    for n in 0..6 {
        let args = ["--zone", "eu", "--zones", "eu,us", "--replicas", "2", "--quorum", "1"];
        files.push(cluster.publish(&path, &[&["--name", &format!("{n}.bin")], &args[..]].concat()).await?);
    }
    for id in &files {
        eventually("the other server of the zone holds all of it", 4 * STEP_TIMEOUT, async || {
            Ok((complete(&cluster, id).await? == [0, 2]).then_some(()))
        })
        .await?;
    }
    Ok(())
}
