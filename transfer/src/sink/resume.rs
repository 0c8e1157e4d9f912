//! Which chunks of a `.part` file are good: only hashing decides.

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
use wire::{ChunkIndex, Digest, Hasher, Layout, Runs};

/// Memory per hashing thread.
const BUFFER: usize = 256 << 10;

/// The chunks that hold any data, found without reading. What was preallocated and never written is a hole.
pub(super) fn written_chunks(file: &File, layout: Layout) -> Runs {
    let mut runs = Runs::new();
    let mut at = 0;
    loop {
        let start = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(start) if start < layout.size() => start,
            // A file system that cannot tell: everything may be data.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => return layout.all(),
            Ok(_) | Err(_) => return runs,
        };
        let end = rustix::fs::seek(file, SeekFrom::Hole(start)).unwrap_or(layout.size());
        runs.insert(layout.run_of_bytes(start..end.min(layout.size())));
        at = end.max(start + 1);
    }
}

/// The chunks of `candidates` whose bytes match their digests. Uses every core; ends early, with less, when cancelled.
pub(super) fn verified_chunks(
    file: &File,
    layout: Layout,
    digests: &[Option<Digest>],
    candidates: &Runs,
    cancel: &CancellationToken,
) -> Runs {
    let chunks: Vec<(ChunkIndex, Digest)> = candidates
        .iter()
        .flatten()
        .filter_map(|n| Some((layout.chunk(n)?, (*digests.get(usize::try_from(n).ok()?)?)?)))
        .collect();
    let next = AtomicUsize::new(0);
    let good = Mutex::new(Runs::new());
    let work = || {
        let mut buffer = vec![0; BUFFER];
        while let Some((chunk, digest)) = chunks.get(next.fetch_add(1, Ordering::Relaxed)) {
            if cancel.is_cancelled() {
                return;
            }
            // A chunk that cannot be read is one that is not there.
            if digest_of(file, layout, *chunk, &mut buffer).is_ok_and(|found| found == *digest) {
                let n = chunk.get();
                good.lock().unwrap_or_else(PoisonError::into_inner).insert(n..n + 1);
            }
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from).min(chunks.len());
    thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    good.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn digest_of(file: &File, layout: Layout, chunk: ChunkIndex, buffer: &mut [u8]) -> std::io::Result<Digest> {
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
