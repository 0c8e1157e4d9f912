use std::path::Path;

use wire::{ChunkLayout, FileId};

use super::*;
use crate::{
    journal::{FileIdentity, PreviousAttempts},
    sink::{PartFile, Sink as _},
};

fn destination(folder: &Path) -> Destination {
    let name = "x.bin".parse().unwrap();
    Destination { folder: folder.to_owned(), name, partial_folder: None, replace: false }
}

fn url(query: &str) -> OriginUrl {
    format!("https://example.org/x.bin?{query}").parse().unwrap()
}

fn strong() -> Validator {
    Validator::Etag("\"1\"".to_owned())
}

fn sized(size: u64) -> VersionEvidence {
    VersionEvidence { size: Some(size), ..VersionEvidence::default() }
}

#[test]
fn bytes_are_resumed_only_if_they_are_what_was_received() {
    let folder = tempfile::tempdir().unwrap();
    let (destination, url) = (destination(folder.path()), url("a"));
    let mut file = SequentialFile::open_url(&destination, &url).unwrap();
    assert_eq!(file.held(), None);
    file.start_version(0, strong(), sized(11)).unwrap();
    file.append(b"hello ").unwrap();
    file.save();
    file.append(b"lost").unwrap();
    assert!(matches!(SequentialFile::open_url(&destination, &url), Err(SinkError::Busy(_))));
    drop(file);

    let mut file = SequentialFile::open_url(&destination, &url).unwrap();
    let held = HeldBytes { len: 6, validator: strong(), evidence: sized(11), is_of_other_link: false };
    assert_eq!(file.held(), Some(held), "bytes after the last save do not count");
    file.start_version(6, strong(), sized(11)).unwrap();
    file.append(b"world").unwrap();
    assert_eq!(file.sha256(), Digest::of(b"hello world"));
    file.save();
    drop(file);

    std::fs::write(destination.part_path(), b"hellO world").unwrap();
    let mut file = SequentialFile::open_url(&destination, &url).unwrap();
    assert_eq!(file.held(), None);
    file.start_version(0, strong(), sized(4)).unwrap();
    file.append(b"anew").unwrap();
    file.finish().unwrap();
    assert_eq!(std::fs::read(destination.path()).unwrap(), b"anew");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn without_a_validator_bytes_are_held_for_comparison_if_the_size_is_known() {
    for (evidence, held) in [(sized(9), Some(5)), (VersionEvidence::default(), None)] {
        let folder = tempfile::tempdir().unwrap();
        let (destination, url) = (destination(folder.path()), url("a"));
        let mut file = SequentialFile::open_url(&destination, &url).unwrap();
        file.start_version(0, Validator::None, evidence.clone()).unwrap();
        file.append(b"hello").unwrap();
        file.save();
        drop(file);
        let file = SequentialFile::open_url(&destination, &url).unwrap();
        assert_eq!(file.held().map(|held| held.len), held, "{evidence:?}");
        if held.is_some() {
            assert_eq!(file.held().unwrap().evidence, evidence);
            assert!(file.holds(1, b"ello").unwrap() && file.holds(0, b"h").unwrap() && file.holds(5, b"").unwrap());
            assert!(
                !file.holds(1, b"elli").unwrap() && !file.holds(1, b"ello!").unwrap() && !file.holds(6, b"").unwrap()
            );
        }
    }
}

#[test]
fn what_another_link_to_the_object_left_is_resumed_or_stays() {
    let folder = tempfile::tempdir().unwrap();
    let destination = destination(folder.path());
    let mut file = SequentialFile::open_url(&destination, &url("sig=1")).unwrap();
    file.start_version(0, Validator::None, sized(11)).unwrap();
    file.append(b"hello").unwrap();
    file.save();
    drop(file);
    let journal = std::fs::read_to_string(folder.path().join("x.bin.part.journal")).unwrap();
    assert!(!journal.contains("sig") && !journal.contains("example.org"), "{journal}");

    let elsewhere: OriginUrl = "https://example.org/y.bin?sig=1".parse().unwrap();
    assert!(matches!(SequentialFile::open_url(&destination, &elsewhere), Err(SinkError::Foreign(_))));
    let mut file = SequentialFile::open_url(&destination, &url("sig=2")).unwrap();
    assert!(file.held().unwrap().is_of_other_link);
    // The origin has another object now: the bytes are not this link's to discard.
    assert!(matches!(file.start_version(0, Validator::None, sized(11)), Err(SinkError::Foreign(_))));
    file.start_version(5, Validator::None, sized(11)).unwrap();
    file.append(b" world").unwrap();
    file.save();
    drop(file);
    let file = SequentialFile::open_url(&destination, &url("sig=2")).unwrap();
    assert_eq!(
        file.held().map(|held| (held.len, held.is_of_other_link)),
        Some((11, false)),
        "the bytes are this link's now"
    );
    assert_eq!(file.sha256(), Digest::of(b"hello world"));
    drop(file);
    // Bytes that are not what was received belong to no download.
    std::fs::write(destination.part_path(), b"hellO world").unwrap();
    assert!(matches!(SequentialFile::open_url(&destination, &url("sig=3")), Err(SinkError::Foreign(_))));
    let mut file = SequentialFile::open_url(&Destination { replace: true, ..destination }, &url("sig=3")).unwrap();
    file.start_version(0, Validator::None, sized(4)).unwrap();
}

#[test]
fn a_journal_of_an_older_version_is_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let (destination, url) = (destination(folder.path()), url("a"));
    let journal = serde_json::json!({
        "origin": origin_digest(&url), "validator": { "etag": "\"1\"" }, "received": 5, "sha256": Digest::of(b"hello"),
    });
    std::fs::write(destination.part_path(), b"hello and more").unwrap();
    std::fs::write(folder.path().join("x.bin.part.journal"), journal.to_string()).unwrap();
    let file = SequentialFile::open_url(&destination, &url).unwrap();
    assert_eq!(file.held().map(|held| (held.len, held.validator)), Some((5, strong())));
}

#[test]
fn a_discarded_file_leaves_nothing_behind_but_never_takes_a_users_file_along() {
    let folder = tempfile::tempdir().unwrap();
    let (destination, url) = (destination(folder.path()), url("a"));
    let entries = || std::fs::read_dir(folder.path()).unwrap().count();
    let mut file = SequentialFile::open_url(&destination, &url).unwrap();
    file.start_version(0, strong(), sized(5)).unwrap();
    file.append(b"hello").unwrap();
    file.discard();
    assert_eq!(entries(), 0);
    let file = SequentialFile::open_url(&destination, &url).unwrap();
    std::fs::remove_file(destination.part_path()).unwrap();
    std::fs::write(destination.part_path(), b"a letter").unwrap();
    file.discard();
    assert_eq!(std::fs::read(destination.part_path()).unwrap(), b"a letter");
}

#[test]
fn a_users_own_file_stays() {
    let folder = tempfile::tempdir().unwrap();
    let destination = destination(folder.path());
    std::fs::write(destination.part_path(), b"a letter").unwrap();
    for replace in [false, true] {
        let destination = Destination { replace, ..destination.clone() };
        let opened = SequentialFile::open_url(&destination, &url("a"));
        assert!(matches!(opened, Err(SinkError::NotADownload(_))), "{opened:?}");
    }
    assert_eq!(std::fs::read(destination.part_path()).unwrap(), b"a letter");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    std::fs::write(destination.path(), b"taken").unwrap();
    assert!(matches!(SequentialFile::open_url(&destination, &url("a")), Err(SinkError::Exists(_))));
}

#[test]
fn chunks_of_a_joint_download_are_continued_up_to_the_first_gap() {
    let folder = tempfile::tempdir().unwrap();
    let (destination, url) = (destination(folder.path()), url("a"));
    let content: Vec<u8> = (0..4_u32 << 20).map(|n| n.to_le_bytes()[2]).collect();
    let layout = ChunkLayout::of(4 << 20).unwrap();
    let identity = FileIdentity { file: FileId::new(), size: 4 << 20, root: None };
    let previous = PreviousAttempts {
        origin: Some(origin_digest(&url)),
        validator: Some(strong()),
        ..PreviousAttempts::default()
    };
    let (part, _) = PartFile::open(&destination, identity, &previous, layout).unwrap();
    for n in [3, 1, 0] {
        let chunk = &content[n << 20..(n + 1) << 20];
        part.write_at(chunk, u64::try_from(n << 20).unwrap()).unwrap();
        part.verified(layout.chunk(u32::try_from(n).unwrap()).unwrap(), Digest::of(chunk)).unwrap();
    }
    part.save();
    drop(part);

    let file = SequentialFile::open_url(&destination, &url).unwrap();
    assert_eq!(file.joint_remains(), Some(JointRemains { verified: 3 << 20, held: 2 << 20 }));
    assert_eq!(file.held().map(|held| (held.len, held.validator)), Some((2 << 20, strong())));
    assert_eq!(file.sha256(), Digest::of(&content[..2 << 20]));
    file.staged.file.write_all_at(b"other", 7).unwrap();
    drop(file);
    let file = SequentialFile::open_url(&destination, &url).unwrap();
    assert_eq!(file.joint_remains(), Some(JointRemains { verified: 3 << 20, held: 0 }));
    assert_eq!(file.held(), None, "bytes that changed are not continued");
}
