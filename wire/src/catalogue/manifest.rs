//! Manifests.

use serde::{Deserialize, Serialize};

use crate::{ChunkLayout, Digest, FileId, chunks::ChunkLayoutError, grammar::counted};

/// Answer of `GET /v1/files/{id}/manifest`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Manifest {
    /// Identifier of the file.
    pub file: FileId,
    /// Size of the file in bytes.
    pub size: u64,
    /// Size in bytes of every chunk but the last.
    pub chunk_size: u64,
    /// SHA-256 of the content; `null` while it is unknown.
    pub sha256: Option<Digest>,
    /// SHA-256 of the concatenated chunk digests; `null` while a digest is unknown.
    pub root: Option<Digest>,
    /// SHA-256 of each chunk, in order; `null` for a chunk whose digest is not known yet.
    pub chunks: Vec<Option<Digest>>,
}

/// Contradiction within a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// The chunk size does not fit the size.
    #[error(transparent)]
    ChunkLayout(#[from] ChunkLayoutError),
    /// The number of digests differs from the number of chunks.
    #[error("a file of this size has {}, the manifest lists {found}", counted(.expected.to_owned(), "chunk"))]
    Count {
        /// Number of chunks in a file of this size.
        expected: u32,
        /// Number of digests listed.
        found: usize,
    },
    /// The root is not the SHA-256 of the digests.
    #[error("the root is not the SHA-256 of the listed digests")]
    Root,
}

impl Manifest {
    /// Checks that size, chunk size, digests and root agree, and returns the layout.
    ///
    /// # Errors
    /// [`ManifestError`].
    pub fn check(&self) -> Result<ChunkLayout, ManifestError> {
        let layout = ChunkLayout::checked(self.size, self.chunk_size)?;
        if usize::try_from(layout.count()) != Ok(self.chunks.len()) {
            return Err(ManifestError::Count { expected: layout.count(), found: self.chunks.len() });
        }
        let complete: Option<Vec<Digest>> = self.chunks.iter().copied().collect();
        match (self.root, complete) {
            (Some(root), Some(chunks)) if Digest::root_of(&chunks) == root => Ok(layout),
            (None, _) => Ok(layout),
            (Some(_), _) => Err(ManifestError::Root),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_that_contradicts_itself_is_refused() {
        let chunk = Digest::of(b"x");
        let good = Manifest {
            file: FileId::new(),
            size: 1,
            chunk_size: 1 << 20,
            sha256: Some(chunk),
            root: Some(Digest::root_of([&chunk])),
            chunks: vec![Some(chunk)],
        };
        assert!(good.check().is_ok());
        assert!(Manifest { root: None, chunks: vec![None], ..good.clone() }.check().is_ok());
        assert_eq!(Manifest { root: Some(chunk), ..good.clone() }.check(), Err(ManifestError::Root));
        assert_eq!(Manifest { chunks: vec![None], ..good.clone() }.check(), Err(ManifestError::Root));
        assert!(matches!(Manifest { chunks: vec![], ..good.clone() }.check(), Err(ManifestError::Count { .. })));
        assert!(matches!(Manifest { chunk_size: 1, ..good.clone() }.check(), Err(ManifestError::ChunkLayout(_))));
        assert!(matches!(Manifest { size: u64::MAX, ..good }.check(), Err(ManifestError::ChunkLayout(_))));
    }
}
