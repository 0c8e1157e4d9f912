use std::time::{Duration, Instant};

use ddm_transfer::{
    download::{DownloadError, RefreshReason, Update},
    progress::Notice,
};
use testkit::rogue::Behaviour;
use wire::{ChunkSet, catalogue::Manifest};

use crate::world::{MIB, World, token};

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_token_is_renewed_once_and_the_download_goes_on() {
    let mut world = World::new(8 * MIB, 2).await;
    let fresh = token(Duration::from_secs(900));
    world.rogues.iter().for_each(|rogue| rogue.require(&fresh.token));
    *world.directory.update.lock().unwrap() = Some(Update { token: Some(fresh), ..Update::default() });
    let report = world.download().await.unwrap();
    world.check(&report);
    assert_eq!(*world.directory.asked.lock().unwrap(), [RefreshReason::TokenRefused]);
    assert!(world.notices().contains(&Notice::TokenRenewed));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_always_refused_ends_in_a_clear_error_without_a_storm() {
    let mut world = World::new(MIB, 1).await;
    world.settings.wait = Duration::from_secs(3);
    world.rogues[0].set(Behaviour::Status { code: 403, retry_after: None });
    let update = Update { token: Some(token(Duration::from_secs(900))), ..Update::default() };
    *world.directory.update.lock().unwrap() = Some(update);
    let error = world.download().await.unwrap_err();
    assert!(matches!(&error, DownloadError::NoSources { reasons, .. } if reasons.contains("403")), "{error}");
    assert!(world.rogues[0].asked().len() <= 8, "{:?}", world.rogues[0].asked());
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_that_no_server_holds_end_the_download_as_soon_as_all_others_are_verified() {
    let mut world = World::new(6 * MIB, 2).await;
    world.settings.wait = Duration::from_secs(50);
    let without = |world: &World, chunk: u32| {
        let mut source = world.source(0);
        source.location.runs.remove(chunk..chunk + 1);
        vec![source]
    };
    let lost = |chunk: u32| Update { lost: Some(ChunkSet::from(chunk..chunk + 1)), ..Update::default() };
    // The first answer is of a time before the chunk was repaired.
    *world.directory.update.lock().unwrap() = Some(lost(3));
    world.rogues[0].set(Behaviour::Throttle { rate: 4 * MIB });
    let repaired = async {
        world.chunks_done(4).await;
        let update = Update { sources: Some(vec![world.source(1)]), lost: Some(ChunkSet::new()), ..Update::default() };
        *world.directory.update.lock().unwrap() = Some(update);
    };
    let (report, ()) = tokio::join!(world.download_from(without(&world, 3)), repaired);
    world.check(&report.unwrap());
    std::fs::remove_file(world.destination().path()).unwrap();
    world.rogues[0].set(Behaviour::Honest);
    *world.directory.update.lock().unwrap() = Some(lost(3));
    let started = Instant::now();
    let error = world.download_from(without(&world, 3)).await.unwrap_err();
    assert!(matches!(&error, DownloadError::Lost { chunks } if *chunks == ChunkSet::from(3..4)), "{error}");
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert_eq!(world.progress.snapshot().chunks_done, 5);
    assert!(world.part_path().exists());
    world.check_unfinished();
    // A chunk that a server which is only away holds may come back.
    *world.directory.update.lock().unwrap() = Some(lost(2));
    world.settings.wait = Duration::from_secs(2);
    let error = world.download_from(without(&world, 3)).await.unwrap_err();
    assert!(matches!(&error, DownloadError::NoSources { lost: Some(lost), .. } if lost.contains("chunk 3")), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_renewed_in_the_middle_of_its_life() {
    let mut world = World::new(16 * MIB, 1).await;
    world.rogues[0].set(Behaviour::Throttle { rate: 8 * MIB });
    world.token = token(Duration::from_secs(2));
    let update = Update { token: Some(token(Duration::from_secs(900))), ..Update::default() };
    *world.directory.update.lock().unwrap() = Some(update);
    world.check(&world.download().await.unwrap());
    assert_eq!(*world.directory.asked.lock().unwrap(), [RefreshReason::TokenExpiring]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_is_down_does_not_stop_a_download() {
    let mut world = World::new(16 * MIB, 1).await;
    world.rogues[0].set(Behaviour::Throttle { rate: 8 * MIB });
    world.token = token(Duration::ZERO);
    let report = world.download().await.unwrap();
    world.check(&report);
    let asked = world.directory.asked.lock().unwrap().len();
    // The pauses double from half a second to eight.
    let pauses = [0.0, 0.5, 1.5, 3.5, 7.5, 15.5];
    let allowed = pauses.iter().filter(|at| **at <= report.elapsed.as_secs_f64()).count();
    assert!((1..=allowed).contains(&asked), "{asked} in {report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sources_learnt_on_the_way_take_over() {
    let world = World::new(8 * MIB, 2).await;
    world.rogues[0].set(Behaviour::Status { code: 503, retry_after: None });
    let update = Update { sources: Some(world.sources()), ..Update::default() };
    *world.directory.update.lock().unwrap() = Some(update);
    let report = world.download_from(vec![world.source(0)]).await.unwrap();
    world.check(&report);
    assert_eq!(report.sources[1].bytes, 8 * MIB);
}

#[tokio::test(flavor = "multi_thread")]
async fn unsolicited_updates_apply_and_a_source_may_come_nearer() {
    let world = World::new(8 * MIB, 2).await;
    let mut far = world.sources();
    far[0].location.runs = ChunkSet::from(0..4);
    far[1].tier = 9;
    far[1].location.runs = ChunkSet::new();
    let mut near = world.sources();
    near[1].tier = 1;
    near[1].location.runs = ChunkSet::from(4..8);
    near.remove(0);
    *world.directory.unsolicited.lock().unwrap() = Some(Update { sources: Some(near), ..Update::default() });
    let report = world.download_from(far).await.unwrap();
    world.check(&report);
    assert_eq!(report.sources.iter().map(|source| source.bytes).collect::<Vec<_>>(), [4 * MIB, 4 * MIB]);
}

#[tokio::test(flavor = "multi_thread")]
async fn digests_and_runs_may_arrive_while_it_runs() {
    let mut world = World::new(8 * MIB, 1).await;
    let whole = world.manifest.clone();
    let mut early = world.source(0);
    early.location.runs = ChunkSet::from(0..3);
    let known = whole.chunks.iter().enumerate().map(|(n, digest)| digest.filter(|_| n < 5)).collect();
    world.manifest = Manifest { root: None, sha256: None, chunks: known, ..whole.clone() };
    let update = Update { manifest: Some(whole), sources: Some(vec![world.source(0)]), ..Update::default() };
    *world.directory.update.lock().unwrap() = Some(update);
    world.check(&world.download_from(vec![early]).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_known_digest_is_never_replaced() {
    let mut world = World::new(2 * MIB, 1).await;
    world.settings.wait = Duration::from_secs(1);
    let whole = world.manifest.clone();
    world.manifest.root = None;
    // With the digest of the directory the chunk would match.
    world.manifest.chunks[0] = Some(wire::Digest::of(b"something else"));
    world.manifest.chunks[1] = None;
    *world.directory.update.lock().unwrap() = Some(Update { manifest: Some(whole), ..Update::default() });
    assert!(matches!(world.download().await, Err(DownloadError::NoSources { .. })));
    world.check_unfinished();
}
