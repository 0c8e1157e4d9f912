//! Continuation of a joint download of the same URL: its chunks before the first gap are taken over.

use std::os::unix::fs::FileExt as _;

use wire::{
    ChunkLayout, Hasher,
    job::{Validator, VersionEvidence},
};

use super::{READ_BUFFER_LEN, Received, SequentialFile};
use crate::journal::{JournalContent, VerifiedPrefix, first_value};

/// Bytes that a joint download left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JointRemains {
    /// Bytes of all chunks that the joint download verified.
    pub verified: u64,
    /// Bytes of those that are continued: before the first gap, of a version with a validator, and verified again.
    pub held: u64,
}

impl SequentialFile {
    /// Returns what a joint download left, if one did.
    pub const fn joint_remains(&self) -> Option<JointRemains> {
        self.joint
    }

    /// Takes over the chunks at the beginning that a joint download verified, as far as its journal allows.
    pub(super) fn resume_joint(&mut self, text: &[u8]) {
        let Some(left) = first_value::<JournalContent>(text) else { return };
        let Ok(layout) = ChunkLayout::of(left.identity.size) else { return };
        let verified =
            left.verified.iter().map(|run| layout.bytes_of_run(run)).map(|bytes| bytes.end - bytes.start).sum();
        let mut remains = JointRemains { verified, held: 0 };
        let validator = left.validator.filter(|validator| *validator != Validator::None);
        let hasher = left.prefix.and_then(|prefix| self.hash_of_prefix(layout, prefix));
        if let (Some(validator), Some(hasher), Some(prefix)) = (validator, hasher, left.prefix) {
            remains.held = layout.bytes_of_run(0..prefix.chunks).end;
            let Received { origin, object, .. } = self.received;
            let evidence = VersionEvidence { size: Some(layout.size()), ..VersionEvidence::default() };
            let sha256 = hasher.clone().finish();
            self.received = Received { origin, object, validator, evidence, bytes: remains.held, sha256 };
            self.hasher = hasher;
        }
        self.joint = Some(remains);
    }

    /// Hashes the chunks of the prefix as they are on the disk. None if their digests are not those of the prefix.
    fn hash_of_prefix(&self, layout: ChunkLayout, prefix: VerifiedPrefix) -> Option<Hasher> {
        let (mut whole, mut root, mut buffer) = (Hasher::new(), Hasher::new(), vec![0; READ_BUFFER_LEN]);
        for n in 0..prefix.chunks {
            let bytes = layout.bytes_of(layout.chunk(n)?);
            let (mut chunk, mut at) = (Hasher::new(), bytes.start);
            while at < bytes.end {
                let wanted = usize::try_from(bytes.end - at).unwrap_or(READ_BUFFER_LEN).min(READ_BUFFER_LEN);
                let part = buffer.get_mut(..wanted).unwrap_or_default();
                self.staged.file.read_exact_at(part, at).ok()?;
                chunk.update(part);
                whole.update(part);
                at += u64::try_from(wanted).unwrap_or(u64::MAX);
            }
            root.update(chunk.finish().as_bytes());
        }
        (root.finish() == prefix.root).then_some(whole)
    }
}
