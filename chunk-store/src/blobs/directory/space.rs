//! The free space of the volume, and the ballast.

use std::io;

use super::BlobDirectory;
use crate::volume::ballast::BALLAST_BYTES;

/// Bytes of the volume that are free, and those of them that stay free.
struct VolumeSpace {
    free: u64,
    reserved: u64,
}

impl BlobDirectory {
    /// Returns the bytes that can still be stored above the reserve.
    ///
    /// # Errors
    /// When the volume's free space cannot be read.
    pub fn free_bytes(&self) -> io::Result<u64> {
        let space = self.space()?;
        Ok(space.free.saturating_sub(space.reserved))
    }

    /// Returns true if less space is free than the reserve.
    pub(crate) fn is_below_reserve(&self) -> io::Result<bool> {
        let space = self.space()?;
        Ok(space.free < space.reserved)
    }

    fn space(&self) -> io::Result<VolumeSpace> {
        // The folders may have been removed; the lock is on the same file system and is open.
        let found = rustix::fs::fstatvfs(&self.volume_file)?;
        let of = |blocks: u64| blocks.saturating_mul(found.f_frsize);
        Ok(VolumeSpace { free: of(found.f_bavail), reserved: self.reserve.of(of(found.f_blocks)) })
    }

    /// Sets space aside for removals, where there is plenty.
    pub(crate) fn set_ballast_aside(&self) -> io::Result<()> {
        self.check_io()?;
        self.ballast.set_aside(self.space()?.free)
    }

    /// Gives up the space that was set aside for removals; false when there was none.
    ///
    /// # Errors
    /// When it cannot be given up.
    pub fn release_ballast(&self) -> io::Result<bool> {
        self.check_io()?;
        self.ballast.release()
    }

    /// Gives up the space that was set aside if next to nothing is free: a database opens only with some.
    ///
    /// # Errors
    /// When the volume's free space cannot be read, or the space not be given up.
    pub fn release_ballast_if_full(&self) -> io::Result<bool> {
        Ok(self.space()?.free < BALLAST_BYTES / 2 && self.release_ballast()?)
    }
}
