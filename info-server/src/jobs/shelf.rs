//! A kept result on its way into the catalogue. Pure.

use wire::Digest;

use super::{
    effects::Effect,
    job::{Job, Moment},
    row::Shelf,
};

impl Job {
    /// The digests of all chunks, once they are known and none is in dispute.
    pub(crate) fn digests(&self) -> Option<Vec<Digest>> {
        if self.checks.has_disputes() {
            return None;
        }
        self.chunks.iter().map(|chunk| chunk.digest).collect()
    }

    /// A holder of all of it read it back from its own disk.
    pub(crate) fn read_back(&mut self, root: Digest, sha256: Digest, now: Moment) {
        let open = self.is_open() && self.row.shelf < Shelf::Published;
        let digests = self.digests().filter(|digests| open && Digest::root_of(digests) == root);
        let Some(digests) = digests else { return };
        match self.row.expected {
            Some((expected, _)) if expected != sha256 => self.examine(now),
            _ if self.row.keep && self.row.state == wire::job::JobState::Done => {
                self.change_row(|row| (row.found, row.shelf) = (Some(sha256), Shelf::Published));
                self.shelved = Some(now.at);
                self.follow(Effect::Publish(sha256, digests));
                self.refresh_all(now.at);
            }
            _ => {}
        }
    }
}
