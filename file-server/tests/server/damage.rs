//! Bytes that others change behind the server's back.

use std::{fs::File, os::unix::fs::FileExt as _, path::Path};

use reqwest::StatusCode;
use wire::{
    ChunkSet, Digest, FileId,
    event::{EventPayload, Stream},
};

use crate::{
    info::Info,
    node::{Node, sample, until},
};

const MIB: usize = 1 << 20;

fn flip(path: &Path, at: usize, right: u8) {
    File::options().write(true).open(path).unwrap().write_all_at(&[right ^ 1], at as u64).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_that_is_spoiled_between_two_uploads_is_found_before_the_file_is_reported_as_complete() {
    let info = Info::start().await;
    let node = Node::start(&info).await;
    let (file, bytes) = (FileId::new(), sample(4 * MIB));
    let chunks: Vec<&[u8]> = bytes.chunks(MIB).collect();
    let token = info.upload(file, bytes.len() as u64, &node.id);
    for n in 0..3 {
        assert_eq!(node.put(file, n, &token, chunks[n as usize]).await.status(), StatusCode::CREATED);
    }
    flip(&node.data.path().join("partial").join(file.to_string()), MIB + 7, bytes[MIB + 7]);
    assert_eq!(node.put(file, 3, &token, chunks[3]).await.status(), StatusCode::CREATED);

    let spoiled: ChunkSet = [0..1, 2..4].into_iter().collect();
    info.wait_until(|received| received.reports.get(&file).is_some_and(|report| report.runs == spoiled)).await;
    let complete = |reports: &[(FileId, wire::server::ReplicaReport)]| {
        reports.iter().any(|(_, report)| report.root.is_some() || report.sha256.is_some())
    };
    assert!(!complete(&info.received().report_history), "neither a root nor a digest of spoiled bytes is reported");
    assert!(node.metrics().await.contains("ddm_file_server_quarantined_chunks_total 1"));
    assert_eq!(node.held(file, &token).await.runs, spoiled, "an upload that is resumed sends the chunk again");
    assert_eq!(node.get(file, &info.download(file)).send().await.unwrap().status(), StatusCode::NOT_FOUND);

    assert_eq!(node.put(file, 1, &token, chunks[1]).await.status(), StatusCode::CREATED);
    let sha256 = Some(Digest::of(&bytes));
    info.wait_until(|received| received.reports.get(&file).is_some_and(|report| report.sha256 == sha256)).await;
    let answer = node.get(file, &info.download(file)).send().await.unwrap();
    assert_eq!(answer.bytes().await.unwrap(), bytes);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_blobs_with_swapped_names_are_found_by_a_scrub_though_both_are_open() {
    let info = Info::start().await;
    let (first, second) = (Node::start(&info).await, Node::start(&info).await);
    let contents = [sample(2 * MIB), sample(2 * MIB + 1)[1..].to_vec()];
    let mut files = Vec::new();
    for bytes in &contents {
        let file = first.upload(&info, bytes).await;
        info.publish_file(file, bytes, &[(&first.id, &first.url, true), (&second.id, &second.url, false)]);
        info.publish(Stream::Server(second.id.clone()), EventPayload::ReplicaAssigned { file });
        info.wait_until(|received| {
            received.replicas.get(&(file, second.id.clone())).is_some_and(|report| report.sha256.is_some())
        })
        .await;
        assert_eq!(second.content(&info, file).await, *bytes);
        files.push(file);
    }
    let [one, other] = [second.place(files[0]), second.place(files[1])];
    let aside = second.data.path().join("aside");
    std::fs::rename(&one, &aside).unwrap();
    std::fs::rename(&other, &one).unwrap();
    std::fs::rename(&aside, &other).unwrap();
    second.scrub.start_round();
    for (file, bytes) in files.iter().zip(&contents) {
        second.until_on_disk(*file, bytes).await;
        assert_eq!(second.content(&info, *file).await, *bytes);
    }
    let metrics = second.metrics().await;
    let quarantined = metrics.lines().find_map(|line| line.strip_prefix("ddm_file_server_quarantined_chunks_total "));
    // Both the scrub and the read-back after the first repair may find one.
    assert!(quarantined.unwrap().parse::<u32>().unwrap() >= 4, "{metrics}");
    let data = second.stop().await;
    let second = Node::start_on(&info.url, data).await;
    for (file, bytes) in files.iter().zip(&contents) {
        assert_eq!(second.content(&info, *file).await, *bytes, "also after a restart");
    }
    second.stop().await;
    first.stop().await;
}

/// Reports a chunk to a server, as a client that received wrong bytes.
async fn report(node: &Node, file: FileId, n: u32, token: &wire::token::Token) -> StatusCode {
    let url = format!("{}/v1/files/{file}/chunks/{n}/verify", node.url);
    node.client.post(url).bearer_auth(token.expose()).send().await.unwrap().status()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_that_a_token_holder_reports_is_read_again_and_only_then_believed() {
    let info = Info::start().await;
    let node = Node::start(&info).await;
    let bytes = sample(3 * MIB);
    let file = node.upload(&info, &bytes).await;
    info.wait_until(|received| received.reports.get(&file).is_some_and(|report| report.sha256.is_some())).await;
    flip(&node.place(file), MIB + 7, bytes[MIB + 7]);
    let token = info.download(file);
    for (what, status, n, token) in [
        ("another file's token", StatusCode::FORBIDDEN, 1, &info.download(FileId::new())),
        ("an upload token", StatusCode::FORBIDDEN, 1, &info.upload(file, bytes.len() as u64, &node.id)),
        ("no such chunk", StatusCode::NOT_FOUND, 3, &token),
    ] {
        assert_eq!(report(&node, file, n, token).await, status, "{what}");
    }
    assert_eq!(report(&node, file, 0, &token).await, StatusCode::ACCEPTED, "intact");
    assert_eq!(report(&node, file, 0, &token).await, StatusCode::NO_CONTENT, "once a minute");
    node.until_metrics(&["chunk_reports_false_total 1", "quarantined_chunks_total 0"]).await;
    assert_eq!(report(&node, file, 1, &token).await, StatusCode::ACCEPTED, "corrupt");
    node.until_metrics(&["chunk_reports_confirmed_total 1", "quarantined_chunks_total 1", "chunk_reports_total 2"])
        .await;
    assert_eq!(report(&node, file, 1, &token).await, StatusCode::NOT_FOUND, "not held any more");
    let spoiled: ChunkSet = [0..1, 2..3].into_iter().collect();
    info.wait_until(|received| received.reports[&file].runs == spoiled).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replication_that_receives_wrong_bytes_reports_them_to_their_server() {
    let info = Info::start().await;
    let (bad, good, new) = (Node::start(&info).await, Node::start(&info).await, Node::start(&info).await);
    let bytes = sample(4 * MIB);
    let file = bad.upload(&info, &bytes).await;
    let publish = |servers: &[(&Node, bool)]| {
        let servers: Vec<_> = servers.iter().map(|(node, whole)| (&node.id, node.url.as_str(), *whole)).collect();
        info.publish_file(file, &bytes, &servers);
    };
    let complete = |node: &Node| {
        let id = node.id.clone();
        move |received: &crate::info::Received| {
            received.replicas.get(&(file, id.clone())).is_some_and(|report| report.sha256.is_some())
        }
    };
    publish(&[(&bad, true), (&good, false)]);
    info.publish(Stream::Server(good.id.clone()), EventPayload::ReplicaAssigned { file });
    info.wait_until(complete(&good)).await;
    info.wait_until(complete(&bad)).await;
    for n in 0..4 {
        flip(&bad.place(file), n * MIB + 7, bytes[n * MIB + 7]);
    }
    publish(&[(&bad, true), (&new, false)]);
    info.publish(Stream::Server(new.id.clone()), EventPayload::ReplicaAssigned { file });
    // Only what was received is reported; the rest is found because damage seldom comes alone.
    bad.until_metrics(&["quarantined_chunks_total 4", "chunk_reports_false_total 0"]).await;
    assert!(!bad.metrics().await.contains("ddm_file_server_chunk_reports_confirmed_total 0"));
    publish(&[(&good, true), (&bad, false), (&new, false)]);
    info.wait_until(complete(&new)).await;
    assert_eq!(new.content(&info, file).await, bytes);
    bad.until_on_disk(file, &bytes).await;
    for node in [bad, good, new] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_or_damaged_database_costs_no_intact_byte() {
    for damage in ["gone", "garbled"] {
        let info = Info::start().await;
        let node = Node::start(&info).await;
        let contents: [Vec<u8>; 3] =
            [sample(3 * MIB), sample(2 * MIB + 5)[5..].to_vec(), sample(MIB + 9)[9..].to_vec()];
        let mut files = Vec::new();
        for bytes in &contents {
            let file = node.upload(&info, bytes).await;
            info.wait_until(|received| received.reports.get(&file).is_some_and(|report| report.sha256.is_some())).await;
            files.push(file);
        }
        let [whole, spoiled, unknown] = [files[0], files[1], files[2]];
        for (file, bytes) in [(whole, &contents[0]), (spoiled, &contents[1])] {
            info.publish_file(file, bytes, &[(&node.id, &node.url, true)]);
        }
        info.received().reconciled.insert(unknown, "unknown");
        let deleted = node.upload(&info, b"deleted meanwhile").await;
        info.received().reconciled.insert(deleted, "delete");
        let [whole_place, spoiled_place, deleted_place] = [whole, spoiled, deleted].map(|file| node.place(file));
        let data = node.stop().await;
        flip(&spoiled_place, 7, contents[1][7]);
        let database = data.path().join("file-server.db");
        match damage {
            "gone" => std::fs::remove_file(&database).unwrap(),
            // Everything but the first page, so that it opens.
            _ => std::fs::File::options()
                .write(true)
                .open(&database)
                .unwrap()
                .write_all_at(&sample(16 << 10), 4096)
                .unwrap(),
        }
        info.received().reports.clear();
        let inode = std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(&whole_place).unwrap());

        let node = Node::start_on(&info.url, data).await;
        assert_eq!(database.with_extension("db.damaged").exists(), damage == "garbled");
        let digest = Some(Digest::of(&contents[0]));
        info.wait_until(|received| received.reports.get(&whole).is_some_and(|report| report.sha256 == digest)).await;
        assert_eq!(node.content(&info, whole).await, contents[0], "{damage}");
        assert_eq!(std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(&whole_place).unwrap()), inode, "{damage}");
        let rest: ChunkSet = ChunkSet::from(1..2);
        info.wait_until(|received| received.reports.get(&spoiled).is_some_and(|report| report.runs == rest)).await;
        node.until_metrics(&["unknown_files 1"]).await;
        until(async || !deleted_place.exists()).await;
        // The next start keeps no strays.
        until(async || !database.with_extension("db.is-rebuilt").exists()).await;
        let data = node.stop().await;
        let node = Node::start_on(&info.url, data).await;
        assert_eq!(node.content(&info, whole).await, contents[0], "{damage}");
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_damaged_while_the_server_runs_stops_it_and_is_set_aside_by_the_next_start() {
    let info = Info::start().await;
    let node = Node::start(&info).await;
    let bytes = sample(2 * MIB);
    let file = node.upload(&info, &bytes).await;
    info.publish_file(file, &bytes, &[(&node.id, &node.url, true)]);
    info.wait_until(|received| received.reports.get(&file).is_some_and(|report| report.sha256.is_some())).await;
    let data = node.stop().await;
    let node = Node::start_on(&info.url, data).await;
    let database = node.data.path().join("file-server.db");
    let length = usize::try_from(std::fs::metadata(&database).unwrap().len()).unwrap();
    std::fs::File::options().write(true).open(&database).unwrap().write_all_at(&sample(length - 4096), 4096).unwrap();
    // Pages in memory are used until something is written.
    until(async || match node.get(file, &info.download(file)).send().await {
        Ok(answer) if answer.status() == StatusCode::OK => false,
        Ok(answer) => {
            let text = answer.text().await.unwrap_or_default();
            assert!(!text.contains("info-server"), "{text}");
            true
        }
        Err(_) => true,
    })
    .await;
    let (data, error) = node.until_failed().await;
    assert!(error.contains("damaged") && error.contains("start this server again"), "{error}");
    let digest = Some(Digest::of(&bytes));
    info.received().reports.clear();
    let node = Node::start_on(&info.url, data).await;
    info.wait_until(|received| received.reports.get(&file).is_some_and(|report| report.sha256 == digest)).await;
    assert_eq!(node.content(&info, file).await, bytes);
    assert!(node.metrics().await.contains("ddm_file_server_replicated_bytes_total 0"));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_acknowledged_or_reported_once_the_data_folder_is_gone() {
    for damage in ["moved", "emptied"] {
        let info = Info::start().await;
        let node = Node::start(&info).await;
        let bytes = sample(2 * MIB);
        let (held, file) = (node.upload(&info, &bytes).await, FileId::new());
        let token = info.upload(file, bytes.len() as u64, &node.id);
        assert_eq!(node.put(file, 0, &token, &bytes[..MIB]).await.status(), StatusCode::CREATED);
        info.wait_until(|received| received.reports.contains_key(&file)).await;
        let (place, aside) = (node.data.path().to_owned(), node.data.path().with_extension("aside"));
        if damage == "moved" {
            std::fs::rename(&place, &aside).unwrap();
            std::fs::create_dir(&place).unwrap();
        } else {
            std::fs::create_dir(&aside).unwrap();
            for entry in std::fs::read_dir(&place).unwrap().map(Result::unwrap) {
                std::fs::rename(entry.path(), aside.join(entry.file_name())).unwrap();
            }
        }
        let answer = node.put(file, 1, &token, &bytes[MIB..]).await;
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE, "{damage}");
        let text = answer.text().await.unwrap();
        assert!(text.contains("This server's data folder is gone") && text.contains("mounted"), "{text}");
        let ready = node.client.get(format!("{}/readyz", node.url)).send().await.unwrap();
        assert_eq!(ready.status(), StatusCode::SERVICE_UNAVAILABLE);
        let ready: serde_json::Value = ready.json().await.unwrap();
        assert!(ready["folder"] == false && ready["reason"].as_str().unwrap().contains("mounted"), "{ready}");
        info.wait_until(|received| received.left.contains(&node.id)).await;
        assert_eq!(std::fs::read_dir(&place).unwrap().count(), 0, "{damage}: nothing is made in the wrong place");
        assert!(info.received().reports[&file].root.is_none());
        assert!(!info.received().reports[&held].runs.is_empty(), "{damage}: what is away is not lost");

        if damage == "moved" {
            std::fs::remove_dir(&place).unwrap();
            std::fs::rename(&aside, &place).unwrap();
        } else {
            for entry in std::fs::read_dir(&aside).unwrap().map(Result::unwrap) {
                std::fs::rename(entry.path(), place.join(entry.file_name())).unwrap();
            }
        }
        let beats = info.received().beats.len();
        info.wait_until(|received| received.beats.len() > beats).await;
        assert_eq!(
            node.put(file, 1, &token, &bytes[MIB..]).await.status(),
            StatusCode::CREATED,
            "{damage}: it is back"
        );
        assert_eq!(node.content(&info, held).await, bytes);
        node.stop().await;
    }
}
