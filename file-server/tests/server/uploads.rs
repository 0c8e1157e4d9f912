//! Uploads of chunks.

use reqwest::StatusCode;
use wire::{ChunkSet, Digest, FileId};

use crate::{
    info::Info,
    node::{Node, sample},
};

const MIB: usize = 1 << 20;

#[tokio::test]
async fn a_chunk_that_does_not_match_is_not_kept_and_a_later_right_one_is() {
    let info = Info::start().await;
    let node = Node::start(&info).await;
    let bytes = sample(2 * MIB);
    let file = FileId::new();
    let token = info.upload(file, 2 * MIB as u64, &node.id);
    let url = format!("{}/v1/files/{file}/chunks/0", node.url);
    let put = |digest: Option<String>, body: &[u8]| {
        let request = node.client.put(&url).bearer_auth(token.expose()).body(body.to_vec());
        match digest {
            Some(digest) => request.header("content-digest", digest),
            None => request,
        }
        .send()
    };
    let (chunk, right) = (&bytes[..MIB], Digest::of(&bytes[..MIB]).to_field());
    assert_eq!(put(None, chunk).await.unwrap().status(), StatusCode::BAD_REQUEST);
    assert_eq!(put(Some("sha-256=:x:".into()), chunk).await.unwrap().status(), StatusCode::BAD_REQUEST);
    assert_eq!(put(Some(Digest::of(b"x").to_field()), chunk).await.unwrap().status(), StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(put(Some(right.clone()), &chunk[1..]).await.unwrap().status(), StatusCode::BAD_REQUEST);
    assert_eq!(put(Some(right.clone()), &bytes[..=MIB]).await.unwrap().status(), StatusCode::BAD_REQUEST);
    assert!(node.held(file, &token).await.runs.is_empty());
    assert_eq!(put(Some(right.clone()), chunk).await.unwrap().status(), StatusCode::CREATED);
    assert_eq!(put(Some(right), chunk).await.unwrap().status(), StatusCode::NO_CONTENT, "again");
    let other = Digest::of(&bytes[MIB..]).to_field();
    assert_eq!(put(Some(other), &bytes[MIB..]).await.unwrap().status(), StatusCode::CONFLICT);
    assert_eq!(node.held(file, &token).await.runs, ChunkSet::from(0..1));
    assert_eq!(node.put(file, 2, &token, b"x").await.status(), StatusCode::NOT_FOUND);
    node.stop().await;
}

#[tokio::test]
async fn many_writers_of_the_same_chunks_end_with_one_verified_file() {
    let info = Info::start().await;
    let node = Node::start(&info).await;
    let bytes = sample(4 * MIB + 3);
    let file = FileId::new();
    let token = info.upload(file, bytes.len() as u64, &node.id);
    let chunks: Vec<&[u8]> = bytes.chunks(MIB).collect();
    let puts = (0..40u32).map(|i| node.put(file, i % 5, &token, chunks[i as usize % 5]));
    let statuses: Vec<_> = futures::future::join_all(puts).await.iter().map(reqwest::Response::status).collect();
    assert!(statuses.iter().all(|status| status.is_success()), "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == StatusCode::CREATED).count(), 5);
    let answer = node.get(file, &info.download(file)).send().await.unwrap();
    assert_eq!(Digest::of(&answer.bytes().await.unwrap()), Digest::of(&bytes));
    node.stop().await;
}

#[tokio::test]
async fn a_complete_replica_is_reported_even_if_it_is_empty_or_the_info_server_was_away() {
    let info = Info::start().await;
    let node = Node::start(&info).await;
    for len in [0, 1, 2 * MIB] {
        let bytes = sample(len);
        let file = node.upload(&info, &bytes).await;
        let root = Digest::root_of(&bytes.chunks(MIB).map(Digest::of).collect::<Vec<_>>());
        info.wait_until(|received| received.reports.get(&file).is_some_and(|report| report.root == Some(root))).await;
        let report = info.received().reports[&file].clone();
        assert_eq!(report.runs.len() as usize, len.div_ceil(MIB));
    }
    let reported = info.received().reports.len();
    let file = FileId::new();
    let token = info.upload(file, 1, &node.id);
    assert_eq!(node.put(file, 0, &token, b"x").await.status(), StatusCode::CREATED);
    // Whether or not the report got out before: a server that starts again repeats what was not acknowledged.
    let data = node.stop().await;
    let node = Node::start_on(&info.url, data).await;
    info.wait_until(|received| received.reports.len() == reported + 1).await;
    node.stop().await;
}

#[tokio::test]
async fn files_that_are_completed_together_are_each_reported_whole() {
    let info = Info::start().await;
    let node = Node::start(&info).await;
    let bytes = sample(MIB + 1);
    let chunks: Vec<&[u8]> = bytes.chunks(MIB).collect();
    let files: Vec<_> = std::iter::repeat_with(FileId::new).take(48).collect();
    let tokens: Vec<_> = files.iter().map(|file| info.upload(*file, bytes.len() as u64, &node.id)).collect();
    // The last chunks of all come at once, so that one transaction completes many files.
    for n in 0..2 {
        let puts = files.iter().zip(&tokens).map(|(file, token)| node.put(*file, n, token, chunks[n as usize]));
        let statuses: Vec<_> = futures::future::join_all(puts).await.iter().map(reqwest::Response::status).collect();
        assert!(statuses.iter().all(|status| *status == StatusCode::CREATED), "{statuses:?}");
    }
    let whole = |report: &wire::server::ReplicaReport| report.root.is_some() && report.runs == ChunkSet::from(0..2);
    info.wait_until(|received| files.iter().all(|file| received.reports.get(file).is_some_and(whole))).await;
    node.stop().await;
}

#[tokio::test]
async fn a_crash_between_the_steps_of_completion_is_finished_at_the_next_start() {
    let info = Info::start().await;
    let node = Node::start(&info).await;
    let bytes = sample(MIB + 1);
    let file = node.upload(&info, &bytes).await;
    let (token, name) = (info.download(file), file.to_string());
    assert_eq!(node.get(file, &token).send().await.unwrap().status(), StatusCode::OK);
    let data = node.stop().await;
    let place = data.path().join("files").join(&name[name.len() - 2..]).join(&name);
    let partial = data.path().join("partial");
    std::fs::rename(&place, partial.join(&name)).unwrap();
    let stray = FileId::new().to_string();
    std::fs::write(partial.join(&stray), b"made just before a crash").unwrap();
    std::fs::write(partial.join("notes.txt"), b"somebody's").unwrap();
    let unknown = place.with_file_name(FileId::new().to_string());
    std::fs::write(&unknown, b"complete, but the database does not know it").unwrap();

    let node = Node::start_on(&info.url, data).await;
    assert!(place.exists() && !partial.join(&name).exists());
    assert!(!partial.join(&stray).exists(), "a stray partial file is removed");
    assert!(partial.join("notes.txt").exists() && unknown.exists(), "nothing else is");
    let answer = node.get(file, &token).send().await.unwrap();
    assert_eq!(answer.bytes().await.unwrap(), bytes);

    let data = node.stop().await;
    std::fs::remove_file(&place).unwrap();
    let node = Node::start_on(&info.url, data).await;
    info.wait_until(|received| received.reports.get(&file).is_some_and(|report| report.runs.is_empty())).await;
    assert_eq!(node.get(file, &token).send().await.unwrap().status(), StatusCode::NOT_FOUND);
    node.stop().await;
}

#[tokio::test]
async fn a_file_that_does_not_fit_is_refused_before_anything_is_visible() {
    let info = Info::start().await;
    let node = Node::start(&info).await;
    let (file, size) = (FileId::new(), 1 << 50);
    let token = info.upload(file, size, &node.id);
    let body = reqwest::Body::wrap_stream(futures::stream::iter([Ok::<_, std::io::Error>("some bytes")]));
    let answer = node
        .client
        .put(format!("{}/v1/files/{file}/chunks/0", node.url))
        .bearer_auth(token.expose())
        .header("content-digest", Digest::of(b"x").to_field())
        .body(body)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), StatusCode::INSUFFICIENT_STORAGE);
    assert_eq!(node.partial_blobs(), 0);
    assert_eq!(node.get(file, &info.download(file)).send().await.unwrap().status(), StatusCode::NOT_FOUND);
    let ready = node.client.get(format!("{}/readyz", node.url)).send().await.unwrap();
    assert_eq!(ready.status(), StatusCode::OK);
    node.stop().await;
}
