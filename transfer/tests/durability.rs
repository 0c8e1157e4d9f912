//! The order of system calls that makes a finished file survive a power failure. It needs `strace` and the right to trace.

use std::{env, path::PathBuf, process::Command};

use ddm_transfer::sink::{Destination, SequentialFile};
use wire::{Digest, job::Validator};

/// Folder in which the traced process finishes a file.
const FOLDER_VARIABLE: &str = "DDM_TEST_DURABILITY_FOLDER";

#[test]
#[ignore = "the traced part of the test below"]
fn finishes_a_file() {
    let Some(folder) = env::var_os(FOLDER_VARIABLE).map(PathBuf::from) else { return };
    let name = "file".parse().unwrap();
    let destination = Destination { folder, name, partial_folder: None, replace: false };
    let mut file = SequentialFile::open(&destination, Digest::of(b"url")).unwrap();
    file.start(0, Validator::None).unwrap();
    file.append(b"content").unwrap();
    file.finish().unwrap();
}

#[test]
fn a_file_is_synced_before_its_rename_and_its_folder_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let trace = tempfile::NamedTempFile::new().unwrap();
    let status = Command::new("strace")
        .args(["-f", "-q", "-e", "trace=fsync,fdatasync,rename,renameat,renameat2,linkat", "-o"])
        .arg(trace.path())
        .arg(env::current_exe().unwrap())
        .args(["--exact", "finishes_a_file", "--ignored"])
        .env(FOLDER_VARIABLE, folder.path())
        .status()
        .expect("this test needs strace: apt-get install strace");
    assert!(status.success());
    assert_eq!(std::fs::read(folder.path().join("file")).unwrap(), b"content");
    let calls = std::fs::read_to_string(trace.path()).unwrap();
    let kind = |line: &str| {
        let name = line.split_whitespace().nth(1)?.split('(').next()?.to_owned();
        Some(if name.starts_with("rename") || name == "linkat" { "rename".to_owned() } else { name })
    };
    let order: Vec<String> =
        calls.lines().filter(|line| line.contains('(') && !line.contains("resumed>")).filter_map(kind).collect();
    // The first two are those of the journal and its name, before the first byte.
    assert_eq!(order, ["fsync", "fsync", "fdatasync", "rename", "fsync"], "{calls}");
}
