//! The party that supplies tokens, sources and digests during a download: in practice the info-server.

use async_trait::async_trait;
use wire::{
    ChunkSet,
    catalogue::{IssuedToken, Manifest},
};

use crate::source::Source;

/// The reason for which the engine asks its [`Directory`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RefreshReason {
    /// Half of the token's life is over.
    TokenExpiring,
    /// A source refuses the token.
    TokenRefused,
    /// Chunks are waiting that no live source holds.
    NoSources,
    /// Chunks are waiting whose digests are not known.
    MoreDigests,
}

/// An answer of the [`Directory`]. What is absent stays as it is.
#[derive(Debug, Clone, Default)]
pub struct Update {
    /// A new token.
    pub token: Option<IssuedToken>,
    /// All present sources. A source that is missing here stays in use: it may be alive nevertheless.
    pub sources: Option<Vec<Source>>,
    /// The manifest with more digests. One of another file or shape is ignored, and a known digest is never replaced.
    pub manifest: Option<Manifest>,
    /// The chunks that no server holds any more, not even one that is away. The download ends when only these are left.
    pub lost: Option<ChunkSet>,
    /// Set while the sources are still receiving chunks: the download is not given up then.
    pub more_expected: bool,
}

/// An error of the directory that asking again would not change. The download ends as soon as no source serves.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PermanentError {
    /// The file no longer exists.
    #[error("{0}")]
    Gone(String),
    /// The caller receives no further token.
    #[error("{0}")]
    Refused(String),
}

/// The engine's interface to the party that supplies tokens, sources and digests.
#[async_trait]
pub trait Directory: Send + Sync + 'static {
    /// Supplies what the reason calls for.
    ///
    /// # Errors
    /// [`PermanentError`] ends a download that no source serves. After any other error the engine continues with what it has and
    /// asks again later.
    async fn refresh(&self, reason: RefreshReason) -> Result<Update, Box<dyn std::error::Error + Send + Sync>>;

    /// Waits for the next update that the engine did not ask for. The engine calls this again after each one, so it should
    /// return now and then at most.
    async fn updates(&self) -> Update {
        std::future::pending().await
    }
}
