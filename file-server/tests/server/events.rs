//! Events from the info-server.

use reqwest::StatusCode;
use wire::{
    FileId,
    event::{EventPayload, Stream},
};

use crate::{
    info::Info,
    node::{Node, sample, until},
};

#[tokio::test]
async fn a_deleted_file_is_removed_from_disk_and_does_not_come_back() {
    let info = Info::start().await;
    let node = Node::start(&info).await;
    let file = node.upload(&info, &sample(1 << 20)).await;
    let name = file.to_string();
    let place = node.data.path().join("files").join(&name[name.len() - 2..]).join(&name);
    assert!(place.exists());
    let token = info.upload(file, 1 << 20, &node.id);
    info.publish(Stream::All, EventPayload::FileDeleted { file });
    info.wait_until(|received| received.reports.get(&file).is_some_and(|report| report.runs.is_empty())).await;
    assert_eq!(node.get(file, &info.download(file)).send().await.unwrap().status(), StatusCode::NOT_FOUND);
    until(async || !place.exists()).await;
    assert_eq!(node.put(file, 0, &token, &sample(1 << 20)).await.status(), StatusCode::GONE);
    // A later assignment of the same file changes nothing: deleted is deleted.
    info.publish(Stream::Server(node.id.clone()), EventPayload::ReplicaAssigned { file });
    node.stop().await;
}

#[tokio::test]
async fn a_failed_removal_is_repeated_without_a_restart() {
    let info = Info::start().await;
    let node = Node::start(&info).await;
    let file = node.upload(&info, &sample(10)).await;
    let name = file.to_string();
    let place = node.data.path().join("files").join(&name[name.len() - 2..]).join(&name);
    // A folder cannot be removed as a file can.
    let aside = node.data.path().join("aside");
    std::fs::rename(&place, &aside).unwrap();
    std::fs::create_dir(&place).unwrap();
    info.publish(Stream::All, EventPayload::FileDeleted { file });
    info.wait_until(|received| received.reports.get(&file).is_some_and(|report| report.runs.is_empty())).await;
    // Later events are applied meanwhile.
    let other = node.upload(&info, &sample(10)).await;
    info.publish(Stream::All, EventPayload::FileDeleted { file: other });
    info.wait_until(|received| received.reports.get(&other).is_some_and(|report| report.runs.is_empty())).await;
    std::fs::remove_dir(&place).unwrap();
    std::fs::rename(&aside, &place).unwrap();
    let gone = async {
        while place.exists() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), gone).await.expect("removed in time");
    node.stop().await;
}

#[tokio::test]
async fn a_removed_replica_is_deleted_and_another_servers_stays() {
    let info = Info::start().await;
    let node = Node::start(&info).await;
    let (removed, kept) = (node.upload(&info, &sample(10)).await, node.upload(&info, &sample(11)).await);
    info.publish(Stream::Server(node.id.clone()), EventPayload::ReplicaRemoved { file: removed });
    info.publish(Stream::All, EventPayload::Unknown);
    info.wait_until(|received| received.reports.get(&removed).is_some_and(|report| report.runs.is_empty())).await;
    assert_eq!(node.get(removed, &info.download(removed)).send().await.unwrap().status(), StatusCode::NOT_FOUND);
    assert_eq!(node.get(kept, &info.download(kept)).send().await.unwrap().status(), StatusCode::OK);
    node.stop().await;
}

#[tokio::test]
async fn a_new_epoch_voids_grants_but_no_verified_bytes() {
    let info = Info::start().await;
    let node = Node::start(&info).await;
    let file = node.upload(&info, &sample(10)).await;
    let token = info.download(file);
    assert_eq!(node.get(file, &token).send().await.unwrap().status(), StatusCode::OK);
    // The last report of this life of the catalogue: the whole was read back.
    info.wait_until(|received| received.reports.get(&file).is_some_and(|report| report.sha256.is_some())).await;
    info.received().grants.clear();
    info.received().reports.clear();
    info.restore();
    // Every replica is reported again to a catalogue that may have forgotten it.
    info.wait_until(|received| received.reports.get(&file).is_some_and(|report| report.root.is_some())).await;
    assert_eq!(node.get(file, &token).send().await.unwrap().status(), StatusCode::FORBIDDEN);
    assert_eq!(node.get(file, &info.download(file)).send().await.unwrap().status(), StatusCode::OK);
    node.stop().await;
}

#[tokio::test]
async fn a_snapshot_of_any_length_is_applied_and_unreadable_lines_are_skipped() {
    let info = Info::start().await;
    let node = Node::start(&info).await;
    let [first, second] = [node.upload(&info, &sample(10)).await, node.upload(&info, &sample(10)).await];
    let data = node.stop().await;
    info.restore();
    info.received().noise = vec!["not an event".to_owned(), "x".repeat(9 << 20), "{}".to_owned()];
    info.received().padding = 20;
    info.publish(Stream::All, EventPayload::FileDeleted { file: first });
    let node = Node::start_on(&info.url, data).await;
    info.wait_until(|received| received.reports.get(&first).is_some_and(|report| report.runs.is_empty())).await;
    assert!(node.metrics().await.contains("ddm_file_server_unreadable_events_total 3"));
    // Its end moved the cursors: what follows is read as a log, to which the padding does not belong.
    info.publish(Stream::All, EventPayload::FileDeleted { file: second });
    info.wait_until(|received| received.reports.get(&second).is_some_and(|report| report.runs.is_empty())).await;
    assert!(node.metrics().await.contains("ddm_file_server_unreadable_events_total 6"));
    node.stop().await;
}

#[tokio::test]
async fn reports_of_a_server_that_lost_its_database_still_count() {
    let info = Info::start().await;
    let node = Node::start(&info).await;
    let file = node.upload(&info, &sample(10)).await;
    for _ in 0..3 {
        node.upload(&info, &sample(10)).await;
    }
    info.wait_until(|received| received.reports.get(&file).is_some_and(|report| report.root.is_some())).await;
    let data = node.stop().await;
    for name in ["file-server.db", "file-server.db-wal", "file-server.db-shm"] {
        let removed = std::fs::remove_file(data.path().join(name));
        assert!(name != "file-server.db" || removed.is_ok());
    }
    let node = Node::start_on(&info.url, data).await;
    let token = info.upload(file, 10, &node.id);
    assert!(node.held(file, &token).await.runs.is_empty());
    let received = info.received().reports[&file].counter;
    // The bytes on the disk are looked at first.
    until(async || {
        let put = node.put(file, 0, &token, &sample(10)).await;
        assert!(put.status().is_success() || put.status() == StatusCode::SERVICE_UNAVAILABLE, "{}", put.status());
        put.status().is_success()
    })
    .await;
    info.wait_until(|now| now.reports[&file].counter > received).await;
    node.stop().await;
}

#[tokio::test]
async fn a_server_enrols_once_sends_heartbeats_and_deregisters_when_it_stops() {
    let info = Info::start().await;
    let node = Node::start(&info).await;
    let id = node.id.clone();
    info.wait_until(|received| !received.beats.is_empty()).await;
    let beat = info.received().beats[0].clone();
    assert!(beat.secret_sha256.is_some() && beat.zone.as_str() == "eu" && beat.free_bytes > 0);
    assert_eq!(beat.url.as_str().trim_end_matches('/'), node.url);
    let alive: wire::server::ServerIdentity =
        node.client.get(format!("{}/livez", node.url)).send().await.unwrap().json().await.unwrap();
    assert_eq!((&alive.server, alive.instance), (&id, beat.instance));
    let data = node.stop().await;
    info.wait_until(|received| received.left == [id.clone()]).await;

    let node = Node::start_on(&info.url, data).await;
    info.wait_until(|received| received.beats.last().is_some_and(|last| last.instance != beat.instance)).await;
    let again = info.received().beats.last().unwrap().clone();
    assert!(again.secret_sha256.is_none(), "known by its own secret now");
    info.received().conflict = true;
    node.stop().await;
    assert_eq!(info.received().left.len(), 2);
}

#[tokio::test]
async fn paths_that_climb_are_refused_or_just_other_files() {
    let info = Info::start().await;
    let node = Node::start(&info).await;
    let token = info.download(FileId::new());
    for (path, status) in [
        ("/v1/files/..%2f..%2flock/content", StatusCode::BAD_REQUEST),
        ("/v1/files/%00/content", StatusCode::BAD_REQUEST),
        // The client itself climbs before it sends.
        ("/v1/files/../../etc/passwd", StatusCode::NOT_FOUND),
        ("/.probe", StatusCode::NOT_FOUND),
        ("/v1/files/lock/content", StatusCode::FORBIDDEN),
    ] {
        let request = node.client.get(format!("{}{path}", node.url)).bearer_auth(token.expose());
        assert_eq!(request.send().await.unwrap().status(), status, "{path}");
    }
    node.stop().await;
}
