//! Records that are lost or wrong, of bytes that are intact.

use reqwest::StatusCode;
use wire::{ChunkSet, Digest, FileId};

use crate::{
    info::Info,
    node::{Node, sample, until},
};

const MIB: usize = 1 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_of_a_proxy_costs_no_byte_after_the_loss_of_the_database() {
    for status in [StatusCode::FOUND, StatusCode::FORBIDDEN, StatusCode::TOO_MANY_REQUESTS] {
        let info = Info::start().await;
        let node = Node::start(&info).await;
        let (bytes, file) = (sample(2 * MIB), FileId::new());
        let token = info.upload(file, bytes.len() as u64, &node.id);
        assert_eq!(node.put(file, 0, &token, &bytes[..MIB]).await.status(), StatusCode::CREATED);
        info.publish_file(file, &bytes, &[(&node.id, &node.url, false)]);
        let data = node.stop().await;
        std::fs::remove_file(data.path().join("file-server.db")).unwrap();
        info.received().reports.clear();
        info.received().proxy_status = Some(status);
        let partial = data.path().join("partial").join(file.to_string());

        let node = Node::start_on(&info.url, data).await;
        until(async || info.received().refused_manifests > 0).await;
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        assert_eq!(&std::fs::read(&partial).unwrap()[..MIB], &bytes[..MIB], "{status}");
        info.received().proxy_status = None;
        let first = ChunkSet::from(0..1);
        info.wait_until(|received| received.reports.get(&file).is_some_and(|report| report.runs == first)).await;
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partial_file_that_the_catalogue_does_not_have_is_kept_for_its_operator() {
    let info = Info::start().await;
    let node = Node::start(&info).await;
    let (bytes, file) = (sample(2 * MIB), FileId::new());
    let token = info.upload(file, bytes.len() as u64, &node.id);
    assert_eq!(node.put(file, 0, &token, &bytes[..MIB]).await.status(), StatusCode::CREATED);
    let mut data = node.stop().await;
    std::fs::remove_file(data.path().join("file-server.db")).unwrap();
    info.received().reconciled.insert(file, "unknown");
    let partial = data.path().join("partial").join(file.to_string());
    for start in 0..2 {
        let node = Node::start_on(&info.url, data).await;
        node.until_metrics(&["unknown_files 1"]).await;
        assert_eq!(&std::fs::read(&partial).unwrap()[..MIB], &bytes[..MIB], "start {start}");
        assert!(!node.get(file, &info.download(file)).send().await.unwrap().status().is_success(), "it is not served");
        data = node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_digest_in_the_database_is_corrected_and_costs_no_intact_chunk() {
    let info = Info::start().await;
    let node = Node::start(&info).await;
    let bytes = sample(3 * MIB);
    let file = node.upload(&info, &bytes).await;
    info.wait_until(|received| received.reports.get(&file).is_some_and(|report| report.sha256.is_some())).await;
    info.publish_file(file, &bytes, &[(&node.id, &node.url, true)]);
    let data = node.stop().await;
    let path = data.path().join("file-server.db");
    let mut database = std::fs::read(&path).unwrap();
    let digest = Digest::of(&bytes[MIB..2 * MIB]);
    let at = database.windows(32).position(|window| window == digest.as_bytes()).expect("the digest is on record");
    database[at] ^= 1;
    std::fs::write(&path, database).unwrap();

    let node = Node::start_on(&info.url, data).await;
    node.scrub.start_round();
    node.until_metrics(&["corrected_digests_total 1", "quarantined_chunks_total 0"]).await;
    assert!(node.content(&info, file).await == bytes);
    node.stop().await;
}
