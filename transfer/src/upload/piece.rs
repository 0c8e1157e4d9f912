//! One chunk of a file that is being published.

use std::{fs::File, io, os::unix::fs::FileExt as _, sync::Arc};

use bytes::Bytes;
use futures::stream;
use wire::{ChunkIndex, Digest, Hasher, Layout};

/// Chunks up to this size are kept in memory until all targets have them; larger ones are read again for each.
const HELD: u64 = 4 << 20;
/// How much is read at once.
const BUFFER: u64 = 256 << 10;
/// What is handed to a connection at once: small enough that a slow one is seen to get on.
const SLICE: usize = 64 << 10;

/// A chunk, hashed.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    pub(super) chunk: ChunkIndex,
    pub(super) len: u64,
    pub(super) digest: Digest,
    bytes: Source,
}

#[derive(Debug, Clone)]
enum Source {
    Held(Bytes),
    Streamed { file: Arc<File>, offset: u64 },
}

impl Piece {
    /// Reads and hashes a chunk; its bytes also go to the hash of the `whole`. Blocks.
    pub(super) fn read(file: &Arc<File>, layout: Layout, chunk: ChunkIndex, whole: &mut Hasher) -> io::Result<Self> {
        let range = layout.bytes_of(chunk);
        let len = range.end - range.start;
        let held = len <= HELD;
        let mut hasher = Hasher::new();
        let mut buffer = Vec::new();
        let mut at = range.start;
        while at < range.end {
            let part = read_part(file, at, if held { len } else { BUFFER.min(range.end - at) })?;
            whole.update(&part);
            hasher.update(&part);
            at += u64::try_from(part.len()).unwrap_or(u64::MAX);
            buffer = part;
        }
        let offset = range.start;
        let bytes =
            if held { Source::Held(buffer.into()) } else { Source::Streamed { file: Arc::clone(file), offset } };
        Ok(Self { chunk, len, digest: hasher.finish(), bytes })
    }

    /// The bytes as a request's body; `taken` is called whenever the connection takes some.
    pub(super) fn body(&self, taken: impl Fn() + Send + Sync + 'static) -> reqwest::Body {
        match &self.bytes {
            Source::Held(bytes) => {
                let mut left = bytes.clone();
                reqwest::Body::wrap_stream(stream::iter(std::iter::from_fn(move || {
                    taken();
                    let slice = left.split_to(left.len().min(SLICE));
                    (!slice.is_empty()).then_some(Ok::<_, io::Error>(slice))
                })))
            }
            Source::Streamed { file, offset } => {
                let end = offset + self.len;
                let parts = stream::try_unfold((Arc::clone(file), *offset), move |(file, at)| {
                    taken();
                    part_at(file, at, end)
                });
                reqwest::Body::wrap_stream(parts)
            }
        }
    }
}

/// The next part of a streamed chunk, and where the one after it begins.
async fn part_at(file: Arc<File>, at: u64, end: u64) -> io::Result<Option<(Bytes, (Arc<File>, u64))>> {
    if at >= end {
        return Ok(None);
    }
    let len = BUFFER.min(end - at);
    let reader = Arc::clone(&file);
    let part = tokio::task::spawn_blocking(move || read_part(&reader, at, len));
    let part = part.await.map_err(io::Error::other)??;
    Ok(Some((Bytes::from(part), (file, at + len))))
}

fn read_part(file: &File, at: u64, len: u64) -> io::Result<Vec<u8>> {
    let mut part = vec![0; usize::try_from(len).map_err(io::Error::other)?];
    file.read_exact_at(&mut part, at)?;
    Ok(part)
}
