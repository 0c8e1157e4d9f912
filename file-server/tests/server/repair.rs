//! Replicas that come from other servers, and those that were spoiled.

use std::os::unix::fs::FileExt as _;

use reqwest::StatusCode;
use wire::{
    FileId,
    event::{Fact, Stream},
};

use crate::{
    info::{Info, Told},
    node::{Node, sample},
};

const MIB: usize = 1 << 20;

/// A file on two servers; the second one got it from the first.
async fn replicated(info: &Info, bytes: &[u8]) -> (Node, Node, FileId) {
    let (first, second) = (Node::start(info).await, Node::start(info).await);
    let file = first.upload(info, bytes).await;
    info.publish_file(file, bytes, &[(&first.id, &first.url, true), (&second.id, &second.url, false)]);
    info.publish(Stream::Server(second.id.clone()), Fact::ReplicaAssigned { file });
    info.wait_until(|told| complete(told, &second, file)).await;
    (first, second, file)
}

fn complete(told: &Told, node: &Node, file: FileId) -> bool {
    told.replicas.get(&(file, node.id.clone())).is_some_and(|report| report.root.is_some())
}

/// Waits until a replica's bytes are on the disk again.
async fn healed(node: &Node, file: FileId, bytes: &[u8]) {
    let place = node.place(file);
    let wait = async {
        while std::fs::read(&place).ok().as_deref() != Some(bytes) {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(40), wait).await.expect("healed in time");
}

async fn content(node: &Node, info: &Info, file: FileId) -> Vec<u8> {
    let answer = node.get(file, &info.download(file)).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    answer.bytes().await.unwrap().to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_assigned_server_becomes_a_complete_replica_and_a_removed_one_drops_it() {
    let info = Info::start().await;
    let bytes = sample(5 * MIB + 7);
    let (first, second, file) = replicated(&info, &bytes).await;
    assert!(content(&second, &info, file).await == bytes);
    assert!(second.place(file).exists());
    assert!(second.metrics().await.contains("ddm_file_server_replicated_chunks_total 6"));
    info.publish(Stream::Server(second.id.clone()), Fact::ReplicaRemoved { file });
    info.wait_until(|told| told.replicas[&(file, second.id.clone())].runs.is_empty()).await;
    let gone = async {
        while second.place(file).exists() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), gone).await.expect("removed in time");
    assert!(first.place(file).exists());
    first.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_byte_is_found_reported_and_healed() {
    let info = Info::start().await;
    let bytes = sample(3 * MIB);
    let (first, second, file) = replicated(&info, &bytes).await;
    let disk = std::fs::File::options().write(true).open(second.place(file)).unwrap();
    disk.write_all_at(&[bytes[MIB + 5] ^ 1], MIB as u64 + 5).unwrap();
    second.scrub.ask();
    healed(&second, file, &bytes).await;
    info.wait_until(|told| complete(told, &second, file)).await;
    assert!(content(&second, &info, file).await == bytes);
    assert!(second.metrics().await.contains("ddm_file_server_quarantined_chunks_total 1"));
    assert!(second.metrics().await.contains("ddm_file_server_replicated_chunks_total 4"), "only the spoiled one again");
    first.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncated_or_deleted_blob_and_a_wiped_folder_are_healed_and_never_served_short() {
    let info = Info::start().await;
    let bytes = sample(3 * MIB);
    let (first, second, file) = replicated(&info, &bytes).await;
    for damage in ["truncated", "deleted", "wiped"] {
        match damage {
            "truncated" => {
                std::fs::File::options().write(true).open(second.place(file)).unwrap().set_len(MIB as u64).unwrap();
            }
            "deleted" => std::fs::remove_file(second.place(file)).unwrap(),
            _ => {
                std::fs::remove_dir_all(second.data.path().join("files")).unwrap();
                std::fs::remove_dir_all(second.data.path().join("partial")).unwrap();
            }
        }
        let status = second.get(file, &info.download(file)).send().await.unwrap().status();
        assert_eq!(status, StatusCode::NOT_FOUND, "{damage}");
        healed(&second, file, &bytes).await;
        info.wait_until(|told| complete(told, &second, file)).await;
        assert!(content(&second, &info, file).await == bytes, "{damage}");
    }
    assert!(second.metrics().await.contains("ddm_file_server_lost_replicas_total 3"));
    first.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_lost_while_nothing_ran_is_healed_after_the_start() {
    let info = Info::start().await;
    let bytes = sample(2 * MIB);
    let (first, second, file) = replicated(&info, &bytes).await;
    let place = second.place(file);
    let data = second.stop().await;
    std::fs::remove_file(place).unwrap();
    let second = Node::start_on(&info.url, data).await;
    healed(&second, file, &bytes).await;
    info.wait_until(|told| complete(told, &second, file)).await;
    assert!(content(&second, &info, file).await == bytes);
    first.stop().await;
    second.stop().await;
}
