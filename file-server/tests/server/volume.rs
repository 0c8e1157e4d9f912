//! A volume that fills up and is freed again, and rate limits.

use std::{
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use reqwest::StatusCode;
use wire::{
    FileId,
    event::{EventPayload, Stream},
};

use crate::{
    info::Info,
    node::{Node, client, put, sample, until},
    process::{listening, plain_command},
};

const MIB: usize = 1 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn below_the_reserve_no_files_are_received_until_space_is_freed() {
    let info = Info::start().await;
    let other = Node::start(&info).await;
    let bytes = sample(2 * MIB);
    let wanted = other.upload(&info, &bytes).await;
    let data = tempfile::tempdir().unwrap();
    let Some(volume) = SmallVolume::mount(data.path(), "512m") else { return };
    let filler = data.path().join("filler");
    let reserve = (416 * MIB).to_string();
    let node = Node::start_with(&info.url, data, &["--reserve".to_owned(), reserve]).await;
    let held = node.upload(&info, &bytes).await;
    let token = info.upload(FileId::new(), 2 * MIB as u64, &node.id);
    let begun = info.received().grants[&token.hash()].file;
    assert_eq!(node.put(begun, 0, &token, &bytes[..MIB]).await.status(), StatusCode::CREATED);

    std::fs::write(&filler, vec![1; 192 * MIB]).unwrap();
    let low = |text: &str| text.contains("ddm_file_server_low_on_room 1");
    until(async || low(&node.metrics().await)).await;
    assert_eq!(node.put(begun, 1, &token, &bytes[MIB..]).await.status(), StatusCode::INSUFFICIENT_STORAGE);
    assert_eq!(node.get(held, &info.download(held)).send().await.unwrap().bytes().await.unwrap(), bytes);
    info.publish_file(wanted, &bytes, &[(&other.id, &other.url, true)]);
    info.publish(Stream::Server(node.id.clone()), EventPayload::ReplicaAssigned { file: wanted });
    info.wait_until(|received| received.beats.last().is_some_and(|beat| beat.free_bytes == 0)).await;
    assert!(!node.place(wanted).exists());

    std::fs::remove_file(&filler).unwrap();
    until(async || node.place(wanted).exists()).await;
    assert_eq!(node.put(begun, 1, &token, &bytes[MIB..]).await.status(), StatusCode::CREATED);
    let data = node.stop().await;
    drop(volume);
    drop(data);
    other.stop().await;
}

/// A file system of its own, in memory, for as long as it lives. Takes root.
struct SmallVolume {
    path: PathBuf,
}

impl SmallVolume {
    fn mount(path: &Path, size: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(path);
        assert!(mount.status().unwrap().success());
        Some(Self { path: path.to_owned() })
    }

    /// Takes all space that is free.
    fn fill(&self) {
        let mut filler = File::options().create(true).append(true).open(self.path.join("filler")).unwrap();
        for size in [MIB, 4096, 1] {
            while filler.write_all(&vec![1; size]).is_ok() {}
        }
    }

    fn free(&self) {
        std::fs::remove_file(self.path.join("filler")).unwrap();
    }
}

impl Drop for SmallVolume {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.path).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_volume_takes_in_the_removals_that_free_it_also_after_a_restart_and_serves_what_it_has() {
    let info = Info::start().await;
    let data = tempfile::tempdir().unwrap();
    let Some(volume) = SmallVolume::mount(data.path(), "40m") else { return };
    let ballast = data.path().join("ballast");
    let no_reserve = ["--reserve".to_owned(), "0".to_owned()];
    let mut node = Node::start_with(&info.url, data, &no_reserve).await;
    let bytes = sample(2 * MIB);
    let kept = node.upload(&info, &bytes).await;
    for run in ["running", "restarted"] {
        let removed = node.upload(&info, &bytes).await;
        for file in [kept, removed] {
            info.wait_until(|received| received.reports.get(&file).is_some_and(|report| report.sha256.is_some())).await;
        }
        until(async || ballast.exists()).await;
        if run == "restarted" {
            let data = node.stop().await;
            volume.fill();
            node = Node::start_with(&info.url, data, &no_reserve).await;
        } else {
            volume.fill();
        }
        let ready = async || {
            let answer = node.client.get(format!("{}/readyz", node.url)).send().await.unwrap();
            (answer.status(), answer.json::<serde_json::Value>().await.unwrap())
        };
        if run == "running" {
            let (status, body) = ready().await;
            assert_eq!(status, StatusCode::OK, "{body}: it serves");
            assert!(body["writes"] == false && body["reason"].as_str().unwrap().contains("full"), "{body}");
            let token = info.upload(FileId::new(), 2 * MIB as u64, &node.id);
            let file = info.received().grants[&token.hash()].file;
            let refused = node.put(file, 0, &token, &bytes[..MIB]).await;
            assert_eq!(refused.status(), StatusCode::INSUFFICIENT_STORAGE);
            assert!(refused.text().await.unwrap().contains("This server's disk is full"));
        }
        assert_eq!(node.content(&info, kept).await, bytes, "{run}");
        let place = node.place(removed);
        info.publish(Stream::All, EventPayload::FileDeleted { file: removed });
        until(async || !place.exists()).await;
        info.wait_until(|received| received.reports[&removed].runs.is_empty()).await;
        assert_eq!(node.content(&info, kept).await, bytes, "{run}");
        volume.free();
        until(async || ready().await.1["writes"] == true).await;
    }
    node.stop().await;
    drop(volume);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_not_mounted_becomes_no_new_server_and_one_that_goes_acknowledges_nothing() {
    let (info, home) = (Info::start().await, tempfile::tempdir().unwrap());
    let place = home.path().join("mnt");
    std::fs::create_dir(&place).unwrap();
    let Some(disk) = SmallVolume::mount(&place, "200m") else { return };
    let data = place.join("store");
    let mut program = listening(plain_command(&info.url, &data)).await;
    let (file, bytes, client) = (FileId::new(), sample(2 * MIB), client());
    let token = info.upload(file, bytes.len() as u64, &program.id);
    let url = |n: u32| format!("{}/v1/files/{file}/chunks/{n}", program.url);
    assert_eq!(put(&client, &url(0), &token, &bytes[..MIB]).await.status(), StatusCode::CREATED);
    info.wait_until(|received| received.reports.contains_key(&file)).await;

    drop(disk);
    assert_eq!(put(&client, &url(1), &token, &bytes[MIB..]).await.status(), StatusCode::SERVICE_UNAVAILABLE);
    let ready = client.get(format!("{}/readyz", program.url)).send().await.unwrap();
    assert_eq!(ready.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(ready.text().await.unwrap().contains("mounted"));
    info.wait_until(|received| received.left.contains(&program.id)).await;
    program.child.kill().unwrap();
    program.child.wait().unwrap();
    for data in [&data, &place] {
        let mut again = plain_command(&info.url, data);
        let output = tokio::task::spawn_blocking(move || again.output().unwrap()).await.unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains("mnt is empty") && text.contains("mount it") && text.contains("--init"), "{text}");
        assert_eq!(std::fs::read_dir(&place).unwrap().count(), 0, "nothing is made on the disk below");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_goes_from_a_folder_of_blobs_acknowledges_nothing_and_no_start_takes_the_folder_below() {
    let info = Info::start().await;
    for name in ["files", "partial"] {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("a neighbour"), b"").unwrap();
        let data = home.path().join("store");
        let mut program = listening(plain_command(&info.url, &data)).await;
        let (file, bytes, client) = (FileId::new(), sample(2 * MIB), client());
        let token = info.upload(file, bytes.len() as u64, &program.id);
        let url = |n: u32| format!("{}/v1/files/{file}/chunks/{n}", program.url);
        assert_eq!(put(&client, &url(0), &token, &bytes[..MIB]).await.status(), StatusCode::CREATED);

        // As the mount point looks once its disk is gone.
        let (place, disk) = (data.join(name), home.path().join("disk"));
        std::fs::rename(&place, &disk).unwrap();
        std::fs::create_dir(&place).unwrap();
        assert_eq!(
            put(&client, &url(1), &token, &bytes[MIB..]).await.status(),
            StatusCode::SERVICE_UNAVAILABLE,
            "{name}"
        );
        info.wait_until(|received| received.left.contains(&program.id)).await;
        let ready = client.get(format!("{}/readyz", program.url)).send().await.unwrap();
        assert_eq!(ready.status(), StatusCode::SERVICE_UNAVAILABLE, "{name}");
        program.child.kill().unwrap();
        program.child.wait().unwrap();
        let mut again = plain_command(&info.url, &data);
        let output = tokio::task::spawn_blocking(move || again.output().unwrap()).await.unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains(&format!("{name} is empty")) && text.contains("mount it"), "{text}");
        assert_eq!(std::fs::read_dir(&place).unwrap().count(), 0, "nothing is made on the disk below");
        std::fs::remove_dir(&place).unwrap();
        std::fs::rename(&disk, &place).unwrap();
        let mut back = listening(plain_command(&info.url, &data)).await;
        let url = format!("{}/v1/files/{file}/chunks/1", back.url);
        assert_eq!(put(&client, &url, &token, &bytes[MIB..]).await.status(), StatusCode::CREATED, "{name}");
        back.child.kill().unwrap();
        back.child.wait().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_limit_is_kept_and_shared() {
    let info = Info::start().await;
    for setting in ["--max-rate", "--max-rate-per-client"] {
        let limit = [setting.to_owned(), "4MiB".to_owned()];
        let node = Node::start_with(&info.url, tempfile::tempdir().unwrap(), &limit).await;
        let bytes = sample(2 * MIB);
        let file = node.upload(&info, &bytes).await;
        let (token, started) = (info.download(file), Instant::now());
        let get = || async { node.get(file, &token).send().await.unwrap().bytes().await.unwrap() };
        let (one, other) = tokio::join!(get(), get());
        assert!(one == bytes && other == bytes);
        assert!(started.elapsed() >= Duration::from_millis(800), "{setting}: {:?}", started.elapsed());
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_wait_for_a_rate_limit_is_not_held_against_the_client() {
    let info = Info::start().await;
    let limits = ["--max-rate", "8KiB", "--write-timeout", "100ms"].map(str::to_owned);
    let node = Node::start_with(&info.url, tempfile::tempdir().unwrap(), &limits).await;
    let bytes = sample(20 << 10);
    let file = node.upload(&info, &bytes).await;
    assert!(node.content(&info, file).await == bytes);
    node.stop().await;
}
