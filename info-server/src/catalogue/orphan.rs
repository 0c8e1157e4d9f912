//! Orphaned files: file servers hold them, and the catalogue does not list them, as after the restore of an older backup.
//! In JSON, metrics and commands they are called *unknown files*.

use std::{fmt, str::FromStr};

use jiff::Timestamp;
use serde::Serialize;
use wire::{FileId, ServerId};

/// A file that a server holds and that the catalogue does not list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(as = Unknown)]
pub struct OrphanedFile {
    /// The server.
    pub server: ServerId,
    /// The file.
    pub file: FileId,
    /// Time at which the server first asked about it.
    pub since: Timestamp,
}

/// The number of orphaned files of a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(as = UnknownCount)]
pub struct OrphanCount {
    /// The server.
    pub server: ServerId,
    /// Number of files.
    pub files: u64,
}

/// The place of an orphaned file in the order of lists: by server, then by file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrphanKey {
    /// The server.
    pub server: ServerId,
    /// The file.
    pub file: FileId,
}

impl From<&OrphanedFile> for OrphanKey {
    fn from(orphan: &OrphanedFile) -> Self {
        Self { server: orphan.server.clone(), file: orphan.file }
    }
}

impl fmt::Display for OrphanKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.server, self.file)
    }
}

impl FromStr for OrphanKey {
    type Err = NotAnOrphanKey;

    fn from_str(text: &str) -> Result<Self, NotAnOrphanKey> {
        let (server, file) = text.split_once('/').ok_or(NotAnOrphanKey)?;
        let (server, file) = (server.parse().map_err(|_| NotAnOrphanKey)?, file.parse().map_err(|_| NotAnOrphanKey)?);
        Ok(Self { server, file })
    }
}

/// A text that is not of the form `server/file`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAnOrphanKey;
