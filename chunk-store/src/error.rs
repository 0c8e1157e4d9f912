//! Reasons why a blob could not be read or written.

use std::io;

use lifecycle::data_folder::FolderReplaced;
use wire::grammar::counted;

use crate::RecordsError;

/// Reason why a blob could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// The bytes are others than announced.
    #[error("the bytes do not match their digest")]
    DigestMismatch,
    /// The chunk is stored already, with other bytes.
    #[error("the chunk is stored with another digest")]
    ChunkConflict,
    /// The file is stored with another size or chunk size.
    #[error("the file is stored here with another size")]
    LayoutConflict,
    /// The body is shorter or longer than the chunk.
    #[error("the body does not have the {} of the chunk", counted(.expected.to_owned(), "byte"))]
    Length {
        /// Bytes of the chunk.
        expected: u64,
    },
    /// The sender paused for too long, or was too slow.
    #[error("the body stalled")]
    BodyStalled,
    /// The connection ended within the body.
    #[error("the body ended early")]
    BodyIncomplete,
    /// Another writer kept the chunk for too long.
    #[error("another request is writing this chunk")]
    ChunkBusy,
    /// The file was deleted, before or while it was written.
    #[error("the file was deleted")]
    Deleted,
    /// The owner keeps the file's bytes, and neither serves nor extends them.
    #[error("the file is withheld: its bytes are kept and not served")]
    Withheld,
    /// Bytes of the file lie on disk without a record; they are compared with the catalogue first.
    #[error("stored bytes of the file are being compared with the catalogue")]
    Unrecorded,
    /// The system reported an error.
    #[error(transparent)]
    Disk(#[from] io::Error),
    /// The bytes may be lost in a power cut, so they do not count.
    #[error("the bytes could not be synced")]
    Unsynced,
    /// The data folder is not there any more, or another one is in its place.
    #[error(transparent)]
    FolderReplaced(#[from] FolderReplaced),
    /// The disk stalled.
    #[error("the disk did not respond in time")]
    DiskTimeout,
    /// The records could not be read or written.
    #[error(transparent)]
    Records(#[from] RecordsError),
}

impl BlobError {
    /// Returns true if the volume, or the database, had no space left.
    pub fn is_full(&self) -> bool {
        match self {
            Self::Disk(error) => {
                use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
                matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
            }
            Self::Records(error) => error.is_full(),
            _ => false,
        }
    }

    /// Returns true if no descriptor was left to open a file with. That passes.
    pub fn is_out_of_descriptors(&self) -> bool {
        match self {
            Self::Disk(error) => lifecycle::descriptors::exhausted(error),
            Self::Records(error) => error.is_out_of_descriptors(),
            _ => false,
        }
    }

    /// Returns true if the data folder is not the one of the start.
    pub fn is_folder_replaced(&self) -> bool {
        match self {
            Self::FolderReplaced(_) => true,
            Self::Disk(error) => error.get_ref().is_some_and(|cause| cause.is::<FolderReplaced>()),
            _ => false,
        }
    }

    /// Returns the error of a volume without space.
    pub fn full() -> Self {
        Self::Disk(io::ErrorKind::StorageFull.into())
    }
}
