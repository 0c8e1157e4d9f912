//! P1, P4: other processes and users that touch the `.part` file or its journal.

use std::{
    fs::{self, File},
    os::unix::fs::{FileExt as _, MetadataExt as _, chown, symlink},
    path::Path,
};

use ddm_transfer::{download::DownloadError, sink::SinkError};
use testkit::rogue::Behaviour;

use crate::{
    resume::interrupt_after,
    world::{MIB, World, asked_chunks},
};

/// User id of the account `nobody` on most systems.
const OTHER_USER: u32 = 65_534;

fn open(path: &Path) -> File {
    File::options().write(true).open(path).unwrap()
}

/// Downloads, and lets `touch` act on the `.part` file when some chunks are verified.
async fn download_and(world: &World, touch: impl FnOnce(&Path)) -> Result<(), DownloadError> {
    world.rogues[0].set(Behaviour::Throttle { rate: 16 * MIB });
    let before = world.progress.snapshot().chunks_done;
    let touched = async {
        world.chunks_done(before + 4).await;
        touch(&world.part_path());
    };
    let (result, ()) = tokio::join!(world.download(), touched);
    result.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_another_process_changed_or_cut_off_never_get_the_final_name_and_are_fetched_again() {
    let change: fn(&Path) = |path| open(path).write_all_at(b"CORRUPT", 77).unwrap();
    let cut: fn(&Path) = |path| open(path).set_len(1000).unwrap();
    let cut_and_extend: fn(&Path) = |path| {
        let file = open(path);
        file.set_len(MIB / 2).unwrap();
        file.set_len(12 * MIB).unwrap();
    };
    for touch in [change, cut, cut_and_extend] {
        let world = World::new(12 * MIB, 1).await;
        let error = download_and(&world, touch).await.unwrap_err();
        assert!(matches!(error, DownloadError::Sink(SinkError::Changed(_))), "{error}");
        world.check_unfinished();
        let report = world.download().await.unwrap();
        world.check(&report);
        assert!(asked_chunks(&world, 0).contains(0) && report.resumed > 0, "{report:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_keeps_the_file_of_an_earlier_run_open_cannot_change_it_unnoticed() {
    let mut world = World::new(12 * MIB, 1).await;
    interrupt_after(&mut world, 4).await;
    let kept = open(&world.part_path());
    let error = download_and(&world, |_| kept.write_all_at(b"CORRUPT", 77).unwrap()).await.unwrap_err();
    assert!(matches!(error, DownloadError::Sink(SinkError::Changed(_))), "{error}");
    world.check_unfinished();
    world.check(&world.download().await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_only_reads_is_no_reason_to_fail() {
    let world = World::new(12 * MIB, 1).await;
    download_and(&world, |path| assert!(fs::read(path).is_ok())).await.unwrap();
    assert!(fs::read(world.destination().path()).unwrap() == world.content);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_another_user_put_there_is_neither_used_nor_changed() {
    let world = World::new(2 * MIB, 1).await;
    let journal = world.folder.path().join("file.part.journal");
    for path in [world.part_path(), journal.clone()] {
        // Even the right bytes: their owner could change them afterwards.
        fs::write(&path, &world.content).unwrap();
        if chown(&path, Some(OTHER_USER), None).is_err() {
            println!("Only root can give a file to another user: nothing was checked.");
            return;
        }
        let error = world.download().await.unwrap_err();
        match &error {
            DownloadError::Sink(SinkError::NotOwn(found)) => assert_eq!(*found, world.part_path()),
            DownloadError::Sink(SinkError::JournalBlocked(found)) => assert_eq!(*found, journal),
            other => panic!("{other}"),
        }
        assert!(fs::read(&path).unwrap() == world.content && fs::metadata(&path).unwrap().uid() == OTHER_USER);
        assert_eq!(fs::read_dir(world.folder.path()).unwrap().count(), 1, "nothing is left beside it");
        fs::remove_file(&path).unwrap();
    }
    world.check(&world.download().await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_that_match_are_used_whatever_the_journal_says() {
    for (file, size) in [(true, false), (false, true)] {
        let mut world = World::new(24 * MIB, 1).await;
        interrupt_after(&mut world, 9).await;
        let path = world.folder.path().join("file.part.journal");
        let mut text = fs::read_to_string(&path).unwrap();
        if file {
            text = text.replace(&world.manifest.file.to_string(), "01890a5d-ac96-774b-bcce-b302099a8057");
        }
        if size {
            text = text.replace(&format!("\"size\":{}", 24 * MIB), "\"size\":5");
        }
        fs::write(&path, &text).unwrap();
        let report = world.download().await.unwrap();
        world.check(&report);
        assert!(report.resumed >= 9 * MIB, "{report:?} after {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_or_folder_in_the_place_of_the_journal_is_named_and_costs_no_chunk() {
    let mut world = World::new(12 * MIB, 1).await;
    interrupt_after(&mut world, 4).await;
    let journal = world.folder.path().join("file.part.journal");
    let outside = tempfile::NamedTempFile::new().unwrap();
    fs::remove_file(&journal).unwrap();
    let block: [&dyn Fn(); 2] = [&|| symlink(outside.path(), &journal).unwrap(), &|| fs::create_dir(&journal).unwrap()];
    for (block, remove) in block.into_iter().zip([fs::remove_file::<&Path>, fs::remove_dir]) {
        block();
        let error = world.download().await.unwrap_err();
        assert!(matches!(&error, DownloadError::Sink(SinkError::JournalBlocked(path)) if *path == journal), "{error}");
        assert_eq!(fs::metadata(outside.path()).unwrap().len(), 0);
        remove(&journal).unwrap();
    }
    let report = world.download().await.unwrap();
    world.check(&report);
    assert!(report.resumed >= 4 * MIB, "{report:?}");
}
