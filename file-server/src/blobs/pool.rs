//! Buffers of bodies: reused while they are still in the processor's cache, and few.

use std::sync::{Arc, Mutex, PoisonError};

/// Bytes read at a time: enough to make a system call cheap, little enough to stay in the second-level cache.
const BUFFER: usize = 128 * 1024;

/// Buffers kept for reuse; those beyond it are given back to the system.
const KEPT: usize = 64;

/// Buffers that nobody uses now, the last one used on top.
#[derive(Debug, Default)]
pub(crate) struct Pool(Mutex<Vec<Box<[u8]>>>);

/// A buffer that returns to its pool.
#[derive(Debug)]
pub(super) struct Buffer {
    bytes: Box<[u8]>,
    filled: usize,
    pool: Arc<Pool>,
}

impl Pool {
    pub(super) fn take(self: &Arc<Self>) -> Buffer {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let bytes = kept.unwrap_or_else(|| vec![0; BUFFER].into_boxed_slice());
        Buffer { bytes, filled: 0, pool: self.clone() }
    }
}

impl Buffer {
    /// Space for at most `most` bytes.
    pub(super) fn space(&mut self, most: u64) -> &mut [u8] {
        let most = usize::try_from(most).unwrap_or(BUFFER).min(BUFFER);
        self.bytes.get_mut(..most).unwrap_or_default()
    }

    /// Says how much of the space was filled.
    pub(super) const fn filled(mut self, n: usize) -> Self {
        self.filled = n;
        self
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self.bytes.get(..self.filled).unwrap_or_default()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut kept = self.pool.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT {
            kept.push(std::mem::take(&mut self.bytes));
        }
    }
}
