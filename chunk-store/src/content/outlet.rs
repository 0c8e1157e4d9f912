//! The pieces of files that wait to be sent on one connection, and the bytes that stand for them (see `sendfile`).

use std::{
    collections::VecDeque,
    fs::File,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use tokio_util::sync::CancellationToken;
use transfer::rate_limiter::Bucket;

/// Bytes that one slice stands for at most.
pub(crate) const MAX_PIECE_BYTES: usize = 1 << 20;

/// Zeros that are never touched, so they take no memory.
pub(super) static STAND_IN: [u8; MAX_PIECE_BYTES] = [0; MAX_PIECE_BYTES];

/// Limits of one response while it is sent. It is dropped when the connection has taken the response's last piece.
pub trait ResponseControl: std::fmt::Debug + Send + Sync + 'static {
    /// Returns the token whose cancellation ends the response, even one whose peer accepts nothing.
    fn cancellation(&self) -> &CancellationToken;

    /// Returns the rate limit that the response shares with others.
    fn rate_limit(&self) -> Option<&Arc<Bucket>>;
}

/// A piece of a file on its way out.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) file: Arc<File>,
    pub(super) range: Range<u64>,
    pub(super) control: Arc<dyn ResponseControl>,
}

/// The pieces that the stand-ins on one connection stand for, in order.
#[derive(Debug, Clone, Default)]
pub struct Outlet(Arc<Mutex<VecDeque<Piece>>>);

impl Outlet {
    /// Notes a piece of at most [`MAX_PIECE_BYTES`] bytes and returns its stand-in.
    pub(crate) fn stand_in(&self, file: &Arc<File>, range: Range<u64>, control: &Arc<dyn ResponseControl>) -> Bytes {
        let length =
            usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(MAX_PIECE_BYTES).min(MAX_PIECE_BYTES);
        self.pieces().push_back(Piece { file: file.clone(), range, control: control.clone() });
        Bytes::from_static(STAND_IN.get(..length).unwrap_or_default())
    }

    pub(super) fn pieces(&self) -> MutexGuard<'_, VecDeque<Piece>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns true if a slice stands for a piece of a file.
pub(super) fn is_stand_in(slice: &[u8]) -> bool {
    !slice.is_empty() && STAND_IN.as_ptr_range().contains(&slice.as_ptr())
}
