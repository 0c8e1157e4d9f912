//! The test whether bytes of a blob can be read without waiting for a disk.

use std::{
    io::{self, IoSliceMut},
    ops::Range,
    sync::atomic::Ordering,
};

use rustix::io::{Errno, ReadWriteFlags};

use super::Blob;

impl Blob {
    /// Returns true if every `step`-th byte of `piece` and its last one, and so in all likelihood the rest, can be read without
    /// waiting for a disk.
    pub(crate) fn is_in_memory(&self, piece: &Range<u64>, step: u64) -> io::Result<bool> {
        if !self.supports_nowait.load(Ordering::Relaxed) {
            return Ok(self.in_memory);
        }
        for at in probed_offsets(piece, step) {
            match rustix::io::preadv2(&*self.file, &mut [IoSliceMut::new(&mut [0])], at, ReadWriteFlags::NOWAIT) {
                Ok(_) => {}
                Err(Errno::AGAIN | Errno::INTR) => return Ok(false),
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                    self.supports_nowait.store(false, Ordering::Relaxed);
                    return Ok(self.in_memory);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }
}

/// Returns the offsets at which `piece` is tested for being in memory: both its ends, as each may be in memory without the other, and
/// every `step` bytes between.
fn probed_offsets(piece: &Range<u64>, step: u64) -> impl Iterator<Item = u64> + use<> {
    let last = piece.end.saturating_sub(1);
    (piece.start..last).step_by(usize::try_from(step).unwrap_or(usize::MAX)).chain([last])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_is_tested_at_each_step_and_at_its_end() {
        for (piece, expected) in [
            (0..1, vec![0]),
            (5..15, vec![5, 14]),
            (5..16, vec![5, 15]),
            (0..20, vec![0, 10, 19]),
            (0..21, vec![0, 10, 20]),
        ] {
            assert_eq!(probed_offsets(&piece, 10).collect::<Vec<_>>(), expected, "{piece:?}");
        }
    }
}
