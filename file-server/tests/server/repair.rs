//! Replication from other servers, and repair of corrupt and lost replicas.

use std::os::unix::fs::FileExt as _;

use reqwest::StatusCode;
use wire::{
    FileId,
    event::{EventPayload, Stream},
};

use crate::{
    info::{Info, Received},
    node::{Node, sample},
};

const MIB: usize = 1 << 20;

/// A file on two servers; the second one got it from the first.
async fn replicated(info: &Info, bytes: &[u8]) -> (Node, Node, FileId) {
    let (first, second) = (Node::start(info).await, Node::start(info).await);
    let file = first.upload(info, bytes).await;
    info.publish_file(file, bytes, &[(&first.id, &first.url, true), (&second.id, &second.url, false)]);
    info.publish(Stream::Server(second.id.clone()), EventPayload::ReplicaAssigned { file });
    info.wait_until(|received| complete(received, &second, file)).await;
    (first, second, file)
}

fn complete(received: &Received, node: &Node, file: FileId) -> bool {
    received.replicas.get(&(file, node.id.clone())).is_some_and(|report| report.root.is_some())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_assigned_server_becomes_a_complete_replica_and_a_removed_one_drops_it() {
    let info = Info::start().await;
    let bytes = sample(5 * MIB + 7);
    let (first, second, file) = replicated(&info, &bytes).await;
    assert!(second.content(&info, file).await == bytes);
    assert!(second.place(file).exists());
    assert!(second.metrics().await.contains("ddm_file_server_replicated_chunks_total 6"));
    info.publish(Stream::Server(second.id.clone()), EventPayload::ReplicaRemoved { file });
    info.wait_until(|received| received.replicas[&(file, second.id.clone())].runs.is_empty()).await;
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
async fn a_corrupt_byte_is_found_reported_and_fetched_again() {
    let info = Info::start().await;
    let bytes = sample(3 * MIB);
    let (first, second, file) = replicated(&info, &bytes).await;
    let disk = std::fs::File::options().write(true).open(second.place(file)).unwrap();
    disk.write_all_at(&[bytes[MIB + 5] ^ 1], MIB as u64 + 5).unwrap();
    second.scrub.start_round();
    second.until_on_disk(file, &bytes).await;
    info.wait_until(|received| complete(received, &second, file)).await;
    assert!(second.content(&info, file).await == bytes);
    assert!(second.metrics().await.contains("ddm_file_server_quarantined_chunks_total 1"));
    assert!(second.metrics().await.contains("ddm_file_server_replicated_chunks_total 4"), "only the spoiled one again");
    first.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncated_or_deleted_blob_and_a_wiped_folder_are_fetched_again_and_never_served_short() {
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
        second.until_on_disk(file, &bytes).await;
        info.wait_until(|received| complete(received, &second, file)).await;
        assert!(second.content(&info, file).await == bytes, "{damage}");
    }
    assert!(second.metrics().await.contains("ddm_file_server_lost_replicas_total 3"));
    first.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_lost_while_no_server_ran_are_fetched_again_after_the_start() {
    let info = Info::start().await;
    let bytes = sample(2 * MIB);
    let (first, second, file) = replicated(&info, &bytes).await;
    let place = second.place(file);
    let data = second.stop().await;
    std::fs::remove_file(place).unwrap();
    let second = Node::start_on(&info.url, data).await;
    second.until_on_disk(file, &bytes).await;
    info.wait_until(|received| complete(received, &second, file)).await;
    assert!(second.content(&info, file).await == bytes);
    first.stop().await;
    second.stop().await;
}
