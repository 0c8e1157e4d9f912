//! The file to be downloaded.

use wire::catalogue::{IssuedToken, Manifest};

use crate::source::Source;

/// A file to be downloaded, with what is known about it at the start.
#[derive(Debug, Clone)]
pub struct DownloadPlan {
    /// The chunks and their digests. Digests may be missing: the [`Directory`](super::Directory) supplies them later.
    pub manifest: Manifest,
    /// The known sources of the chunks.
    pub sources: Vec<Source>,
    /// The token that the sources accept.
    pub token: IssuedToken,
}
