//! F40: 500 ranges at once of a file as large as any disk, in little memory.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    os::fd::AsFd,
    path::{Path, PathBuf},
    process::Command,
};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use reqwest::StatusCode;
use rustix::fs::FallocateFlags;
use wire::{ChunkLayout, Digest, FileId, range};

use crate::{
    info::Info,
    node::{self, sample},
    process::{Program, start, start_on},
};

const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;
/// Chunks that are there; the others are holes.
const HELD: u32 = 24;
const REQUESTS: u32 = 500;

/// A file server that has room for 64 GiB, whatever the disk has: on a file system within a sparse file, which takes root.
/// Otherwise one with the room that there is. And how its folder looks from here.
async fn roomy(info: &str, folder: &Path) -> (Program, PathBuf) {
    let (image, data) = (folder.join("image"), folder.join("data"));
    std::fs::create_dir(&data).unwrap();
    if !rustix::process::geteuid().is_root() {
        return (start(info, &data).await, data);
    }
    File::create(&image).unwrap().set_len(80 * GIB).unwrap();
    let mut mkfs = Command::new("mkfs.ext4");
    mkfs.args(["-q", "-m", "0", "-O", "^has_journal", "-E", "lazy_itable_init=1,nodiscard"]).arg(&image);
    assert!(mkfs.status().unwrap().success());
    let program = start_on(&image, info, &data).await;
    let seen = format!("/proc/{}/root{}", program.child.id(), data.display());
    (program, seen.into())
}

/// 64 GiB, or as much as there is room for: the room is reserved for a moment when the blob is made.
fn size_for(folder: &Path) -> u64 {
    let found = rustix::fs::statvfs(folder).unwrap();
    let free = found.f_bavail * found.f_frsize;
    let size = [64, 32, 16, 8].into_iter().map(|n| n * GIB).find(|size| size + 4 * GIB < free).expect("12 GiB of room");
    println!("a file of {} GiB", size / GIB);
    size
}

/// Gives the room of everything but the first chunk back.
fn make_sparse(partial: &Path, layout: ChunkLayout) {
    let blob = OpenOptions::new().write(true).open(partial).unwrap();
    let (from, flags) = (layout.chunk_size(), FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE);
    rustix::fs::fallocate(blob.as_fd(), flags, from, layout.size() - from).unwrap();
}

fn peak_resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() * 1024
}

#[tokio::test]
async fn five_hundred_ranges_of_a_huge_file_at_once_take_little_memory() {
    let info = Info::start().await;
    // Not in a folder that is itself in memory.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (program, data) = roomy(&info.url, folder.path()).await;
    let layout = ChunkLayout::of(size_for(&data)).unwrap();
    let (client, file) = (node::client(), FileId::new());
    let (up, down) = (info.upload(file, layout.size(), &program.id), info.download(file));
    let bytes = sample(layout.chunk_size() as usize);
    let step = layout.count() / HELD;
    let mut digests = BTreeMap::new();
    for n in (0..HELD).map(|n| n * step) {
        let mut chunk = bytes.clone();
        chunk[..4].copy_from_slice(&n.to_le_bytes());
        let answer = node::put(&client, &format!("{}/v1/files/{file}/chunks/{n}", program.url), &up, &chunk).await;
        assert_eq!(answer.status(), StatusCode::CREATED);
        if n == 0 {
            make_sparse(&data.join("partial").join(file.to_string()), layout);
        }
        digests.insert(n, Digest::of(&chunk));
    }
    let url = node::content(&program.url, file);
    let asked = (0..REQUESTS).map(|n| {
        let (client, url, token) = (client.clone(), url.clone(), down.expose().to_owned());
        let chunk = (n % HELD) * step;
        let bytes = layout.bytes_of_run(chunk..chunk + 1);
        async move {
            let request = client.get(url).bearer_auth(token).header("range", range::request(&bytes));
            let answer = request.timeout(std::time::Duration::from_secs(120)).send().await?;
            assert_eq!(answer.status(), StatusCode::PARTIAL_CONTENT);
            // Only the digest is kept: it is the server's memory that is looked at, but this machine has one too.
            let mut hasher = wire::Hasher::new();
            let mut body = answer.bytes_stream();
            while let Some(piece) = body.try_next().await? {
                hasher.update(&piece);
            }
            Ok::<_, reqwest::Error>((chunk, hasher.finish()))
        }
    });
    let mut answers = stream::iter(asked).buffer_unordered(REQUESTS as usize);
    while let Some((chunk, digest)) = answers.try_next().await.unwrap() {
        assert_eq!(Some(&digest), digests.get(&chunk), "chunk {chunk}");
    }
    let peak = peak_resident(program.child.id());
    println!("at most {} MiB resident", peak / MIB);
    assert!(peak < 256 * MIB, "{peak}");
}
