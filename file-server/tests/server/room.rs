//! A volume that fills up and has room again, and lines that are limited.

use std::time::{Duration, Instant};

use reqwest::StatusCode;
use wire::{
    FileId,
    event::{Fact, Stream},
};

use crate::{
    info::Info,
    node::{Node, sample},
};

const MIB: usize = 1 << 20;

/// A file system in memory: no real disk is filled.
const MEMORY: &str = "/dev/shm";

fn free() -> u64 {
    let found = rustix::fs::statvfs(MEMORY).unwrap();
    found.f_bavail * found.f_frsize
}

#[tokio::test(flavor = "multi_thread")]
async fn below_the_reserve_nothing_is_taken_in_and_everything_is_once_there_is_room_again() {
    let info = Info::start().await;
    let other = Node::start(&info).await;
    let bytes = sample(2 * MIB);
    let wanted = other.upload(&info, &bytes).await;
    let data = tempfile::tempdir_in(MEMORY).unwrap();
    let filler = data.path().join("filler");
    let reserve = format!("{}", free() - 96 * MIB as u64);
    let node = Node::start_with(&info.url, data, &["--reserve".to_owned(), reserve]).await;
    let held = node.upload(&info, &bytes).await;
    let token = info.upload(FileId::new(), 2 * MIB as u64, &node.id);
    let begun = info.told().grants[&token.hash()].file;
    assert_eq!(node.put(begun, 0, &token, &bytes[..MIB]).await.status(), StatusCode::CREATED);

    std::fs::write(&filler, vec![1; 192 * MIB]).unwrap();
    let low = |text: &str| text.contains("ddm_file_server_low_on_room 1");
    until(async || low(&node.metrics().await)).await;
    assert_eq!(node.put(begun, 1, &token, &bytes[MIB..]).await.status(), StatusCode::INSUFFICIENT_STORAGE);
    assert_eq!(node.get(held, &info.download(held)).send().await.unwrap().bytes().await.unwrap(), bytes);
    info.publish_file(wanted, &bytes, &[(&other.id, &other.url, true)]);
    info.publish(Stream::Server(node.id.clone()), Fact::ReplicaAssigned { file: wanted });
    info.wait_until(|told| told.beats.last().is_some_and(|beat| beat.free_bytes == 0)).await;
    assert!(!node.place(wanted).exists());

    std::fs::remove_file(&filler).unwrap();
    until(async || node.place(wanted).exists()).await;
    assert_eq!(node.put(begun, 1, &token, &bytes[MIB..]).await.status(), StatusCode::CREATED);
    node.stop().await;
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limited_line_is_not_exceeded_and_shared() {
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

async fn until(condition: impl AsyncFn() -> bool) {
    let wait = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), wait).await.expect("in time");
}
