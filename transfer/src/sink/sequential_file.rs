//! A file that is received from its first byte to its last, from one source, without known digests of its parts.

use std::{fs::File, io::Read as _, os::unix::fs::FileExt as _, time::Instant};

use rustix::fs::fstatvfs;
use serde::{Deserialize, Serialize};
use wire::{
    Digest, Hasher, OriginUrl,
    job::{Validator, VersionEvidence},
};

mod joint_remains;

pub use self::joint_remains::JointRemains;
use super::{destination::Destination, error::SinkError, staged_file::StagedFile};
use crate::journal::{
    MAX_JOURNAL_LEN, SAVE_INTERVAL, first_value, is_journal, object_digest, origin_digest, was_written_for,
};

/// Memory for reading what an earlier run left.
const READ_BUFFER_LEN: usize = 256 << 10;

/// The open `.part` file of a plain download, locked against other downloads. Bytes are added at its end.
///
/// The journal beside it states the URL and the version that the bytes belong to, their number and their SHA-256: the bytes
/// of an earlier run are resumed only if they still are what was received. URLs appear in it as digests only.
#[derive(Debug)]
pub struct SequentialFile {
    staged: StagedFile,
    journal: File,
    received: Received,
    hasher: Hasher,
    saved_at: Instant,
    /// Set while the bytes are those of another link to the same object: they are resumed or left alone.
    is_of_other_link: bool,
    joint: Option<JointRemains>,
}

/// Bytes of an earlier run or attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldBytes {
    /// Number of bytes from the beginning of the file.
    pub len: u64,
    /// The strong validator of their version, if it has one.
    pub validator: Validator,
    /// All that the origin stated of their version.
    pub evidence: VersionEvidence,
    /// Set if they came from another link to the same object.
    pub is_of_other_link: bool,
}

/// The content of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Received {
    origin: Digest,
    /// Absent in journals of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    object: Option<Digest>,
    validator: Validator,
    #[serde(default)]
    evidence: VersionEvidence,
    #[serde(rename = "received")]
    bytes: u64,
    sha256: Digest,
}

impl SequentialFile {
    /// Opens or creates the `.part` file of what has the digest `origin`, such as that of a URL. It begins empty, unless an earlier run left bytes that may be resumed: see
    /// [`Self::held`].
    ///
    /// # Errors
    /// [`SinkError`]: among others, when the `.part` file holds something else and replacing was not allowed.
    pub fn open(destination: &Destination, origin: Digest) -> Result<Self, SinkError> {
        Self::open_for(destination, origin, None)
    }

    /// Opens or creates the `.part` file of a URL. What another link to the same object left, one with another query, may be
    /// resumed, too.
    ///
    /// # Errors
    /// See [`Self::open`].
    pub fn open_url(destination: &Destination, url: &OriginUrl) -> Result<Self, SinkError> {
        Self::open_for(destination, origin_digest(url), Some(object_digest(url)))
    }

    fn open_for(destination: &Destination, origin: Digest, object: Option<Digest>) -> Result<Self, SinkError> {
        let (staged, journal) = StagedFile::open(destination)?;
        let mut text = Vec::new();
        let read = (&journal).take(MAX_JOURNAL_LEN).read_to_end(&mut text);
        let len_before = staged.file.metadata().map_or(0, |metadata| metadata.len());
        let left = first_value::<Received>(&text).filter(|left| left.bytes <= len_before);
        let is_ours = read.is_ok() && was_written_for(&text, Some(origin));
        let is_of_other_link =
            !is_ours && left.as_ref().is_some_and(|left| object.is_some() && left.object == object && left.bytes > 0);
        if len_before > 0 && !is_ours && !is_of_other_link {
            if !is_journal(&text) {
                staged.remove_empty_journal();
                return Err(SinkError::NotADownload(staged.part.path));
            }
            if !staged.replace {
                return Err(SinkError::Foreign(staged.part.path));
            }
        }
        let evidence = VersionEvidence::default();
        let received =
            Received { origin, object, validator: Validator::None, evidence, bytes: 0, sha256: Digest::of(b"") };
        let (hasher, saved_at) = (Hasher::new(), Instant::now());
        let mut file = Self { staged, journal, received, hasher, saved_at, is_of_other_link, joint: None };
        match left {
            Some(left) if is_ours || is_of_other_link => file.resume(left),
            None if is_ours => file.resume_joint(&text),
            _ => {}
        }
        if is_of_other_link && file.held().is_none() && !file.staged.replace {
            return Err(SinkError::Foreign(file.staged.part.path));
        }
        Ok(file)
    }

    /// Resumes what an earlier run left, if the bytes still match its journal.
    fn resume(&mut self, left: Received) {
        if left.validator == Validator::None && left.evidence.size.is_none() {
            return;
        }
        let Ok(hasher) = self.hash_of(left.bytes) else { return };
        if hasher.clone().finish() == left.sha256 {
            let Received { origin, object, .. } = self.received;
            (self.received, self.hasher) = (Received { origin, object, ..left }, hasher);
        }
    }

    /// Hashes the first `len` bytes of the file, as they are on the disk.
    fn hash_of(&self, len: u64) -> std::io::Result<Hasher> {
        let (mut hasher, mut buffer, mut at) = (Hasher::new(), vec![0; READ_BUFFER_LEN], 0);
        while at < len {
            let wanted = usize::try_from(len - at).unwrap_or(READ_BUFFER_LEN).min(READ_BUFFER_LEN);
            let part = buffer.get_mut(..wanted).unwrap_or_default();
            self.staged.file.read_exact_at(part, at)?;
            hasher.update(part);
            at += u64::try_from(wanted).unwrap_or(u64::MAX);
        }
        Ok(hasher)
    }

    /// Returns the bytes that may be resumed, if there are any: those of a version that can be told from others, by a strong
    /// validator or by its size and a comparison of bytes.
    pub fn held(&self) -> Option<HeldBytes> {
        let Received { bytes, validator, evidence, .. } = &self.received;
        let is_known = *validator != Validator::None || evidence.size.is_some();
        (*bytes > 0 && is_known).then(|| HeldBytes {
            len: *bytes,
            validator: validator.clone(),
            evidence: evidence.clone(),
            is_of_other_link: self.is_of_other_link,
        })
    }

    /// Returns true if the bytes held from `at` on begin with `bytes`.
    ///
    /// # Errors
    /// [`SinkError`] when they cannot be read.
    pub fn holds(&self, at: u64, bytes: &[u8]) -> Result<bool, SinkError> {
        let end = at.checked_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        if end.is_none_or(|end| end > self.received.bytes) {
            return Ok(false);
        }
        let mut held = vec![0; bytes.len()];
        self.staged.file.read_exact_at(&mut held, at).map_err(|error| self.staged.io_error("read", error))?;
        Ok(held == bytes)
    }

    /// Prepares for bytes of this version that begin at `from`; another offset than the number of bytes held discards these.
    ///
    /// # Errors
    /// [`SinkError`]: among others, when the bytes to be discarded came from another link and replacing was not allowed.
    pub fn start(&mut self, from: u64, validator: Validator) -> Result<(), SinkError> {
        self.start_version(from, validator, VersionEvidence::default())
    }

    /// Prepares for bytes like [`Self::start`], with all that is known of their version.
    ///
    /// # Errors
    /// See [`Self::start`].
    pub fn start_version(
        &mut self,
        from: u64,
        validator: Validator,
        evidence: VersionEvidence,
    ) -> Result<(), SinkError> {
        if from != self.received.bytes {
            if self.is_of_other_link && !self.staged.replace {
                return Err(SinkError::Foreign(self.staged.part.path.clone()));
            }
            (self.received.bytes, self.hasher) = (0, Hasher::new());
        }
        self.is_of_other_link = false;
        (self.received.validator, self.received.evidence) = (validator, evidence);
        let len = self.received.bytes;
        self.staged.file.set_len(len).map_err(|error| self.staged.explain("cut", error, len))?;
        self.save();
        if len == 0 {
            self.staged.sync_journal(&self.journal);
        }
        Ok(())
    }

    /// Checks that there is room for `more` bytes, so that a full disk is noticed before the first byte.
    ///
    /// # Errors
    /// [`SinkError::Full`].
    pub fn check_room(&self, more: u64) -> Result<(), SinkError> {
        let room =
            fstatvfs(&self.staged.file).map_or(u64::MAX, |system| system.f_bavail.saturating_mul(system.f_frsize));
        let len = self.staged.file.metadata().map_or(0, |metadata| metadata.len());
        // Bytes beyond the received ones are overwritten: their space is available.
        let taken = len.saturating_sub(self.received.bytes);
        if more > room.saturating_add(taken) {
            return Err(SinkError::Full { path: self.staged.part.path.clone(), needed: more });
        }
        Ok(())
    }

    /// Appends bytes at the end.
    ///
    /// # Errors
    /// [`SinkError`].
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        let at = self.received.bytes;
        let needed = at.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        let written = self.staged.file.write_all_at(bytes, at);
        written.map_err(|error| self.staged.explain("write", error, needed))?;
        self.hasher.update(bytes);
        self.received.bytes = needed;
        if self.saved_at.elapsed() >= SAVE_INTERVAL {
            self.save();
        }
        Ok(())
    }

    /// Returns the number of bytes received.
    pub const fn received(&self) -> u64 {
        self.received.bytes
    }

    /// Returns the SHA-256 of the bytes received.
    pub fn sha256(&self) -> Digest {
        self.hasher.clone().finish()
    }

    /// Writes the journal, for the next attempt.
    pub fn save(&mut self) {
        self.saved_at = Instant::now();
        self.received.sha256 = self.sha256();
        let written = serde_json::to_vec(&self.received).map_err(std::io::Error::from).and_then(|text| {
            self.journal.write_all_at(&text, 0)?;
            self.journal.set_len(u64::try_from(text.len()).unwrap_or(0))
        });
        if let Err(error) = written {
            let path = self.staged.part.path.display();
            tracing::debug!(%path, %error, "The journal of {path} was not written; resuming will fetch more");
        }
    }

    /// Removes the file and its journal because its bytes are of no use.
    pub fn discard(self) {
        self.staged.discard();
    }

    /// Syncs the file and gives it its final name.
    ///
    /// # Errors
    /// [`SinkError`].
    pub fn finish(&self) -> Result<(), SinkError> {
        self.staged.finish(self.received.bytes, || {
            let read = self.hash_of(self.received.bytes).map_err(|error| self.staged.io_error("read", error))?;
            Ok(read.finish() == self.sha256())
        })
    }
}

#[cfg(test)]
mod tests;
