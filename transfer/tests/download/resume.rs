use std::{os::unix::fs::FileExt as _, time::Duration};

use ddm_transfer::{download::DownloadError, sink::SinkError};
use testkit::rogue::{Behaviour, Rogue};
use wire::ChunkSet;

use crate::world::{MIB, World, asked_chunks};

/// Downloads until this many chunks are verified, then cancels the download.
pub(crate) async fn interrupt_after(world: &mut World, chunks: u32) {
    world.rogues[0].set(Behaviour::Throttle { rate: 20 * MIB });
    let cancel = async {
        world.chunks_done(chunks).await;
        world.cancel.cancel();
    };
    let (result, ()) = tokio::join!(world.download(), cancel);
    assert!(matches!(result, Err(DownloadError::Interrupted)), "{result:?}");
    world.check_unfinished();
    world.cancel = Default::default();
    world.rogues = vec![Rogue::start(world.manifest.file, world.content.clone()).await.unwrap()];
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resumed_download_fetches_only_what_is_missing() {
    let mut world = World::new(24 * MIB, 1).await;
    interrupt_after(&mut world, 9).await;
    let report = world.download().await.unwrap();
    world.check(&report);
    assert!(report.resumed >= 9 * MIB, "{report:?}");
    assert_eq!(u64::from(asked_chunks(&world, 0).len()) * MIB, report.fetched, "each was asked for once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_corrupted_meanwhile_is_fetched_again_and_no_other_is() {
    let mut world = World::new(24 * MIB, 1).await;
    interrupt_after(&mut world, 9).await;
    let part = std::fs::File::options().write(true).open(world.part_path()).unwrap();
    part.write_all_at(b"rot", MIB + 77).unwrap();
    let report = world.download().await.unwrap();
    world.check(&report);
    assert!(report.resumed >= 8 * MIB && asked_chunks(&world, 0).contains(1), "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_journal_or_with_a_hostile_one_a_download_resumes_by_hashing() {
    for journal in [None, Some("{"), Some(r#"{"file":"x","size":-1,"verified":[[0,4000000000]]}"#)] {
        let mut world = World::new(24 * MIB, 1).await;
        interrupt_after(&mut world, 9).await;
        let path = world.folder.path().join("file.part.journal");
        match journal {
            None => std::fs::remove_file(path).unwrap(),
            Some(text) => std::fs::write(path, text).unwrap(),
        }
        let report = world.download().await.unwrap();
        world.check(&report);
        assert!(report.resumed >= 9 * MIB, "{report:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_file_of_something_else_is_neither_used_nor_overwritten_without_permission() {
    let foreign = r#"{"file":"01890a5d-ac96-774b-bcce-b302099a8057","size":3145728,"root":null,"verified":[[0,3]]}"#;
    for (journal, is_download) in [(None, false), (Some(foreign), true), (Some("{"), false)] {
        let world = World::new(8 * MIB, 1).await;
        std::fs::write(world.part_path(), vec![7; 3 << 20]).unwrap();
        let beside = world.folder.path().join("file.part.journal");
        if let Some(text) = journal {
            std::fs::write(&beside, text).unwrap();
        }
        let check_untouched = |error: DownloadError| {
            match error {
                DownloadError::Sink(SinkError::Foreign(_)) => assert!(is_download),
                DownloadError::Sink(SinkError::NotADownload(_)) => assert!(!is_download),
                other => panic!("{other}"),
            }
            assert_eq!(std::fs::read(world.part_path()).unwrap(), vec![7; 3 << 20]);
            assert_eq!(std::fs::read_to_string(&beside).ok().as_deref(), journal);
        };
        check_untouched(world.download().await.unwrap_err());
        let mut destination = world.destination();
        destination.replace = true;
        if !is_download {
            // A user's own file is not replaced even with permission: that is about the final name.
            check_untouched(world.download_to(world.sources(), &destination).await.unwrap_err());
            continue;
        }
        let report = world.download_to(world.sources(), &destination).await.unwrap();
        world.check(&report);
        assert_eq!(report.resumed, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_file_removed_during_the_download_is_reported() {
    let world = World::new(8 * MIB, 1).await;
    world.rogues[0].set(Behaviour::Throttle { rate: 8 * MIB });
    let vanish = async {
        world.chunks_done(2).await;
        std::fs::remove_file(world.part_path()).unwrap();
    };
    let (result, ()) = tokio::join!(world.download(), vanish);
    assert!(matches!(result, Err(DownloadError::Sink(SinkError::Vanished(_)))), "{result:?}");
    world.check_unfinished();
    world.download().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn with_no_source_left_it_waits_fails_clearly_and_resumes_later() {
    let mut world = World::new(16 * MIB, 1).await;
    world.settings.wait = Duration::from_millis(1500);
    world.rogues[0].set(Behaviour::Throttle { rate: 16 * MIB });
    let sources = world.sources();
    let victim = world.rogues.pop().unwrap();
    let kill = async {
        world.chunks_done(5).await;
        victim.kill().await;
    };
    let (result, ()) = tokio::join!(world.download_from(sources), kill);
    let error = result.unwrap_err();
    assert!(matches!(&error, DownloadError::NoSources { reasons, .. } if reasons.contains("rogue-0")), "{error}");
    world.check_unfinished();
    world.rogues = vec![Rogue::start(world.manifest.file, world.content.clone()).await.unwrap()];
    let report = world.download().await.unwrap();
    world.check(&report);
    assert!(report.resumed >= 5 * MIB, "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_continues_when_a_server_comes_back_in_time() {
    let mut world = World::new(16 * MIB, 1).await;
    world.rogues[0].set(Behaviour::Throttle { rate: 16 * MIB });
    let sources = world.sources();
    let victim = world.rogues.pop().unwrap();
    let (address, file, content) = (victim.address(), world.manifest.file, world.content.clone());
    let replace = async {
        world.chunks_done(5).await;
        victim.kill().await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        Rogue::start_at(address, file, content).await.unwrap()
    };
    let (report, _back) = tokio::join!(world.download_from(sources), replace);
    world.check(&report.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_written_through_links_or_over_existing_files() {
    let world = World::new(2 * MIB, 1).await;
    let outside = tempfile::NamedTempFile::new().unwrap();
    std::os::unix::fs::symlink(outside.path(), world.part_path()).unwrap();
    let error = world.download().await.unwrap_err();
    assert!(matches!(error, DownloadError::Sink(SinkError::NotPlain(_))), "{error}");
    std::fs::remove_file(world.part_path()).unwrap();
    std::fs::hard_link(outside.path(), world.part_path()).ok();
    if world.part_path().exists() {
        assert!(matches!(world.download().await, Err(DownloadError::Sink(SinkError::NotPlain(_)))));
        std::fs::remove_file(world.part_path()).unwrap();
    }
    assert_eq!(std::fs::metadata(outside.path()).unwrap().len(), 0);
    std::fs::write(world.destination().path(), "mine").unwrap();
    assert!(matches!(world.download().await, Err(DownloadError::Sink(SinkError::Exists(_)))));
    assert_eq!(std::fs::read(world.destination().path()).unwrap(), b"mine");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_downloads_of_one_file_do_not_mix() {
    let world = World::new(8 * MIB, 1).await;
    world.rogues[0].set(Behaviour::Throttle { rate: 8 * MIB });
    let second = async {
        world.chunks_done(2).await;
        world.download().await
    };
    let (first, second) = tokio::join!(world.download(), second);
    assert!(matches!(second, Err(DownloadError::Sink(SinkError::Busy(_)))), "{second:?}");
    world.check(&first.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_is_missing_is_named() {
    let world = World::new(MIB, 1).await;
    let folder = world.folder.path().to_owned();
    std::fs::remove_dir(&folder).unwrap();
    let error = world.download().await.unwrap_err().to_string();
    assert!(error.contains(folder.to_str().unwrap()), "{error}");
    std::fs::create_dir(&folder).unwrap();
    assert_eq!(asked_chunks(&world, 0), ChunkSet::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_too_small_is_noticed_before_the_first_byte() {
    let mut world = World::new(MIB, 1).await;
    let layout = wire::ChunkLayout::of(wire::chunks::MAX_FILE_SIZE).unwrap();
    let chunks = vec![None; usize::try_from(layout.count()).unwrap()];
    world.manifest = wire::catalogue::Manifest {
        size: layout.size(),
        chunk_size: layout.chunk_size(),
        sha256: None,
        root: None,
        chunks,
        ..world.manifest
    };
    let error = world.download().await.unwrap_err();
    assert!(matches!(error, DownloadError::Sink(SinkError::Full { .. })), "{error}");
    assert!(error.to_string().contains("file.part"), "{error}");
    assert_eq!(std::fs::metadata(world.part_path()).unwrap().len(), 0);
    world.check_unfinished();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_file_may_be_in_a_folder_of_its_own() {
    let world = World::new(3 * MIB, 1).await;
    let aside = tempfile::tempdir().unwrap();
    let mut destination = world.destination();
    destination.partial_folder = Some(aside.path().to_owned());
    world.check(&world.download_to(world.sources(), &destination).await.unwrap());
    assert_eq!(std::fs::read_dir(aside.path()).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_existing_file_is_replaced_only_when_that_is_allowed() {
    let world = World::new(3 * MIB, 1).await;
    std::fs::write(world.destination().path(), "old").unwrap();
    let mut destination = world.destination();
    destination.replace = true;
    world.check(&world.download_to(world.sources(), &destination).await.unwrap());
}
