//! Hashing of a local file, chunk by chunk.

use std::{
    fs::File,
    os::unix::fs::FileExt as _,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio_util::sync::CancellationToken;
use transfer::download::DownloadError;
use wire::{ChunkLayout, ChunkSet, Digest, FileName, Hasher, catalogue::Manifest};

use crate::{
    context::Context,
    progress::{Direction, Display, TransferProgress, watch_bytes},
};

/// Memory for reading.
const READ_BUFFER_LEN: usize = 256 << 10;

/// Returns the chunks of a file that match the manifest. A chunk that cannot be read whole matches nothing.
pub(super) async fn check_chunks(
    context: &Context,
    path: &Path,
    file: File,
    manifest: &Manifest,
) -> anyhow::Result<ChunkSet> {
    let layout = manifest.check()?;
    let digests = manifest.chunks.clone();
    let hashed = Arc::new(AtomicU64::new(0));
    let (counter, cancel) = (Arc::clone(&hashed), context.cancel.clone());
    let checking =
        tokio::task::spawn_blocking(move || matching_chunks(&file, layout, &digests, &Check { counter, cancel }));
    let display = Display::choose(context.common.json, context.common.json);
    let name = FileName::tamed(&path.to_string_lossy());
    let progress = TransferProgress::new(display, Direction::Check, &name, Some(layout.size()));
    let showing = watch_bytes(progress, || hashed.load(Ordering::Relaxed));
    let intact = tokio::select! {
        intact = checking => intact?,
        never = showing => match never {},
    };
    intact.ok_or_else(|| DownloadError::Interrupted.into())
}

/// Surroundings of a check.
struct Check {
    counter: Arc<AtomicU64>,
    cancel: CancellationToken,
}

fn matching_chunks(file: &File, layout: ChunkLayout, digests: &[Option<Digest>], check: &Check) -> Option<ChunkSet> {
    let (mut intact, mut buffer) = (ChunkSet::new(), vec![0; READ_BUFFER_LEN]);
    for (chunk, expected) in layout.chunks().zip(digests) {
        let (bytes, mut hasher) = (layout.bytes_of(chunk), Hasher::new());
        let mut at = bytes.start;
        while at < bytes.end {
            if check.cancel.is_cancelled() {
                return None;
            }
            let wanted = usize::try_from(bytes.end - at).unwrap_or(READ_BUFFER_LEN).min(READ_BUFFER_LEN);
            let part = buffer.get_mut(..wanted).unwrap_or_default();
            if file.read_exact_at(part, at).is_err() {
                break;
            }
            hasher.update(part);
            at += u64::try_from(wanted).unwrap_or(u64::MAX);
        }
        check.counter.fetch_add(bytes.end - bytes.start, Ordering::Relaxed);
        if at == bytes.end && Some(hasher.finish()) == *expected {
            intact.insert(chunk.get()..chunk.get() + 1);
        }
    }
    Some(intact)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_match_one_by_one_and_a_short_file_lacks_its_end() {
        let layout = ChunkLayout::checked((2 << 20) + 5, 1 << 20).unwrap();
        let mut content = vec![7_u8; (2 << 20) + 5];
        let digests: Vec<_> = content.chunks(1 << 20).map(|chunk| Some(Digest::of(chunk))).collect();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let check = || Check { counter: Arc::default(), cancel: CancellationToken::new() };
        let intact = |content: &[u8]| {
            std::fs::write(&path, content).unwrap();
            let intact = matching_chunks(&File::open(&path).unwrap(), layout, &digests, &check()).unwrap();
            intact.iter().map(|run| (run.start, run.end)).collect::<Vec<_>>()
        };
        assert_eq!(intact(&content), [(0, 3)]);
        assert_eq!(intact(&content[..content.len() - 1]), [(0, 2)]);
        content[(1 << 20) + 9] ^= 1;
        assert_eq!(intact(&content), [(0, 1), (2, 3)]);
        let cancelled = check();
        cancelled.cancel.cancel();
        assert!(matching_chunks(&File::open(&path).unwrap(), layout, &digests, &cancelled).is_none());
    }
}
