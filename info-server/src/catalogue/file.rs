//! Catalogue entries as values.

use jiff::Timestamp;
use wire::{
    ChunkLayout, ChunkSet, Digest, FileId, FileName, JobId,
    catalogue::{FileState, FileSummary},
    grammar::counted,
};

use crate::error::{Result, invalid};

/// A catalogue entry.
#[derive(Debug, Clone)]
pub struct File {
    /// Its id.
    pub id: FileId,
    /// Its name.
    pub name: FileName,
    /// Its chunks.
    pub layout: ChunkLayout,
    /// Media type of its content.
    pub media_type: Option<String>,
    /// Its state.
    pub state: FileState,
    /// Replicas needed before it counts as published.
    pub quorum: u32,
    /// Row id of the account that announced it.
    pub owner: i64,
    /// Time of the announcement.
    pub created_at: Timestamp,
    /// Its content, once it is committed.
    pub content: Option<Content>,
    /// The job that makes it: its requesters alone see the file.
    pub job: Option<JobId>,
    /// Chunks that no file server holds any more.
    pub lost_chunks: ChunkSet,
}

impl File {
    /// Returns the SHA-256 of the whole as the API shows it: none while a holder of the content disputes its publisher's.
    pub(crate) fn shown_sha256(&self, is_disputed: bool) -> Option<Digest> {
        self.content.filter(|_| !is_disputed).map(|content| content.sha256)
    }
}

/// The content of a committed file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Content {
    /// SHA-256 of all bytes.
    pub sha256: Digest,
    /// SHA-256 of the concatenated chunk digests.
    pub root: Digest,
}

/// The catalogue's answer about a file that a server holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CatalogueStatus {
    /// The server may keep it.
    Wanted,
    /// File that was deleted, or from which the server was released.
    Unwanted,
    /// File that the catalogue does not list.
    Unknown,
}

/// Returns the content that digests of chunks and of the whole describe; refuses digests that cannot belong together.
pub(crate) fn content_of(layout: ChunkLayout, chunks: &[Digest], sha256: Digest) -> Result<Content> {
    if usize::try_from(layout.count())? != chunks.len() {
        return Err(invalid(format!(
            "this file has {}, the body lists {}",
            counted(layout.count(), "chunk"),
            chunks.len()
        )));
    }
    let known = match chunks {
        [] => Some(Digest::of(b"")),
        [only] => Some(*only),
        _ => None,
    };
    if known.is_some_and(|known| sha256 != known) {
        return Err(invalid("sha256 does not fit the chunks"));
    }
    Ok(Content { sha256, root: Digest::root_of(chunks) })
}

/// Returns the file as lists show it.
pub(crate) fn summary(file: File, live_replicas: u32, is_disputed: bool) -> FileSummary {
    FileSummary {
        id: file.id,
        sha256: file.shown_sha256(is_disputed),
        name: file.name,
        size: file.layout.size(),
        chunk_size: file.layout.chunk_size(),
        state: file.state,
        media_type: file.media_type,
        created_at: file.created_at,
        live_replicas,
        lost_chunks: file.lost_chunks.len(),
    }
}
