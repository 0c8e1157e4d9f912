//! The search for valid chunks in a `.part` file: only hashing decides.

use std::{
    fs::File,
    os::unix::fs::FileExt as _,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use rustix::{fs::SeekFrom, io::Errno};
use tokio_util::sync::CancellationToken;
use wire::{ChunkIndex, ChunkLayout, ChunkSet, Digest, Hasher};

use crate::progress::Progress;

/// Memory per hashing thread.
const READ_BUFFER_LEN: usize = 256 << 10;

/// Returns the chunks that hold any data, without reading them. What was preallocated and never written is a hole.
pub(super) fn written_chunks(file: &File, layout: ChunkLayout) -> ChunkSet {
    let mut runs = ChunkSet::new();
    let mut at = 0;
    loop {
        let start = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(start) if start < layout.size() => start,
            // This file system does not report holes: everything may be data.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => return layout.all(),
            Ok(_) | Err(_) => return runs,
        };
        let end = rustix::fs::seek(file, SeekFrom::Hole(start)).unwrap_or(layout.size());
        runs.insert(layout.run_of_bytes(start..end.min(layout.size())));
        at = end.max(start + 1);
    }
}

/// Surroundings of the hashing: its end, and its display.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hashing<'a> {
    pub(crate) cancel: &'a CancellationToken,
    pub(crate) progress: &'a Progress,
}

/// Returns the chunks of `candidates` whose bytes match their digests. Uses every core; when cancelled, returns early with
/// fewer.
pub(super) fn verified_chunks(
    file: &File,
    layout: ChunkLayout,
    digests: &[Option<Digest>],
    candidates: &ChunkSet,
    hashing: &Hashing<'_>,
) -> ChunkSet {
    let Hashing { cancel, progress } = *hashing;
    let chunks: Vec<(ChunkIndex, Digest)> = candidates
        .iter()
        .flatten()
        .filter_map(|n| Some((layout.chunk(n)?, (*digests.get(usize::try_from(n).ok()?)?)?)))
        .collect();
    let len = |chunk: ChunkIndex| {
        let bytes = layout.bytes_of(chunk);
        bytes.end - bytes.start
    };
    let total = chunks.iter().map(|(chunk, _)| len(*chunk)).sum();
    let next = AtomicUsize::new(0);
    let valid = Mutex::new(ChunkSet::new());
    let work = || {
        let mut buffer = vec![0; READ_BUFFER_LEN];
        while let Some((chunk, digest)) = chunks.get(next.fetch_add(1, Ordering::Relaxed)) {
            if cancel.is_cancelled() {
                return;
            }
            // A chunk that cannot be read counts as missing.
            if digest_of(file, layout, *chunk, &mut buffer).is_ok_and(|found| found == *digest) {
                let n = chunk.get();
                valid.lock().unwrap_or_else(PoisonError::into_inner).insert(n..n + 1);
            }
            progress.hashed(len(*chunk), total);
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from).min(chunks.len());
    thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    valid.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn digest_of(file: &File, layout: ChunkLayout, chunk: ChunkIndex, buffer: &mut [u8]) -> std::io::Result<Digest> {
    let bytes = layout.bytes_of(chunk);
    let mut at = bytes.start;
    let mut hasher = Hasher::new();
    while at < bytes.end {
        let wanted = usize::try_from(bytes.end - at).unwrap_or(usize::MAX).min(buffer.len());
        let part = buffer.get_mut(..wanted).unwrap_or_default();
        file.read_exact_at(part, at)?;
        hasher.update(part);
        at += u64::try_from(wanted).unwrap_or(u64::MAX);
    }
    Ok(hasher.finish())
}
