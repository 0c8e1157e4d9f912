//! A file that comes from its first byte to its last, from one place, with no digest of its parts known beforehand.

use std::{fs::File, io::Read as _, os::unix::fs::FileExt as _, time::Instant};

use rustix::fs::fstatvfs;
use serde::{Deserialize, Serialize};
use wire::{Digest, Hasher, job::Validator};

use super::{
    Place, SinkError,
    aside::{Aside, failed},
};
use crate::journal::{INTERVAL, MAX_LEN, is_of};

/// Memory for reading what is there.
const BUFFER: usize = 256 << 10;

/// The open `.part` file of a plain download, locked against other downloads. Bytes are added at its end.
///
/// Beside it a journal says which version of which URL they are of, how many there were, and what their SHA-256 was: an
/// earlier run's bytes are gone on with only if they still are what was received.
#[derive(Debug)]
pub struct WholeFile {
    aside: Aside,
    journal: File,
    note: Note,
    hasher: Hasher,
    noted: Instant,
}

/// What the journal holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    origin: Digest,
    validator: Validator,
    received: u64,
    sha256: Digest,
}

impl WholeFile {
    /// Opens or creates the `.part` file at `place`, for what `origin` marks. It begins empty, unless an earlier run left
    /// bytes of a version that can be told from others: see [`Self::resumable`].
    ///
    /// # Errors
    /// [`SinkError`]: among others, when the `.part` file holds something else and replacing was not allowed.
    pub fn open(place: &Place, origin: Digest) -> Result<Self, SinkError> {
        let (aside, journal) = Aside::open(place)?;
        let mut text = Vec::new();
        let read = (&journal).take(MAX_LEN).read_to_end(&mut text);
        let had = aside.file.metadata().map_or(0, |metadata| metadata.len());
        let ours = read.is_ok() && is_of(&text, Some(origin));
        if had > 0 && !ours && !aside.replace {
            aside.forget_empty_journal();
            return Err(SinkError::Foreign(aside.part.path));
        }
        let note = Note { origin, validator: Validator::None, received: 0, sha256: Digest::of(b"") };
        let mut file = Self { aside, journal, note, hasher: Hasher::new(), noted: Instant::now() };
        if let Some(left) = serde_json::from_slice::<Note>(&text).ok().filter(|left| ours && left.received <= had) {
            file.take_up(left);
        }
        Ok(file)
    }

    /// Goes on with what is there if it is what was noted.
    fn take_up(&mut self, left: Note) {
        if left.validator == Validator::None {
            return;
        }
        let (mut hasher, mut buffer, mut at) = (Hasher::new(), vec![0; BUFFER], 0);
        while at < left.received {
            let wanted = usize::try_from(left.received - at).unwrap_or(BUFFER).min(BUFFER);
            let part = buffer.get_mut(..wanted).unwrap_or_default();
            if self.aside.file.read_exact_at(part, at).is_err() {
                return;
            }
            hasher.update(part);
            at += u64::try_from(wanted).unwrap_or(u64::MAX);
        }
        if hasher.clone().finish() == left.sha256 {
            (self.note, self.hasher) = (left, hasher);
        }
    }

    /// How many bytes are there and of which version, if going on with them makes sense.
    pub fn resumable(&self) -> Option<(u64, Validator)> {
        let Note { received, validator, .. } = &self.note;
        (*received > 0 && *validator != Validator::None).then(|| (*received, validator.clone()))
    }

    /// What comes now is of this version, and begins at `from`: 0 throws away what was there.
    ///
    /// # Errors
    /// [`SinkError`].
    pub fn begin(&mut self, from: u64, validator: Validator) -> Result<(), SinkError> {
        if from != self.note.received {
            (self.note.received, self.hasher) = (0, Hasher::new());
        }
        self.note.validator = validator;
        let length = self.note.received;
        self.aside.file.set_len(length).map_err(|error| failed("cut", &self.aside.part.path, error))?;
        self.save();
        Ok(())
    }

    /// Looks whether there is room for `more` bytes, so that a full disk is noticed before the first byte.
    ///
    /// # Errors
    /// [`SinkError::Full`].
    pub fn expect(&self, more: u64) -> Result<(), SinkError> {
        let room =
            fstatvfs(&self.aside.file).map_or(u64::MAX, |system| system.f_bavail.saturating_mul(system.f_frsize));
        let taken = self.aside.file.metadata().map_or(0, |metadata| metadata.len()).saturating_sub(self.note.received);
        if more > room.saturating_add(taken) {
            return Err(SinkError::Full { path: self.aside.part.path.clone(), needed: more });
        }
        Ok(())
    }

    /// Adds bytes at the end.
    ///
    /// # Errors
    /// [`SinkError`].
    pub fn add(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        let at = self.note.received;
        let needed = at.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        let written = self.aside.file.write_all_at(bytes, at);
        written.map_err(|error| self.aside.explain("write", error, needed))?;
        self.hasher.update(bytes);
        self.note.received = needed;
        if self.noted.elapsed() >= INTERVAL {
            self.save();
        }
        Ok(())
    }

    /// How many bytes are there.
    pub const fn received(&self) -> u64 {
        self.note.received
    }

    /// The SHA-256 of all that is there.
    pub fn sha256(&self) -> Digest {
        self.hasher.clone().finish()
    }

    /// Writes down how far it is, for the next try.
    pub fn save(&mut self) {
        self.noted = Instant::now();
        self.note.sha256 = self.sha256();
        let written = serde_json::to_vec(&self.note).map_err(std::io::Error::from).and_then(|text| {
            self.journal.write_all_at(&text, 0)?;
            self.journal.set_len(u64::try_from(text.len()).unwrap_or(0))
        });
        if let Err(error) = written {
            tracing::debug!(%error, "the journal of a download was not written; a resumed download fetches more");
        }
    }

    /// Removes it and its journal: it is of no use to anybody.
    pub fn discard(self) {
        self.aside.discard();
    }

    /// Syncs it and gives it its final name.
    ///
    /// # Errors
    /// [`SinkError`].
    pub fn finish(&self) -> Result<(), SinkError> {
        self.aside.finish()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn place(folder: &Path) -> Place {
        let name = "x.bin".parse().unwrap();
        Place { folder: folder.to_owned(), name, partial_folder: None, replace: false }
    }

    fn strong() -> Validator {
        Validator::Etag("\"1\"".to_owned())
    }

    #[test]
    fn bytes_are_gone_on_with_only_if_they_are_what_was_received() {
        let folder = tempfile::tempdir().unwrap();
        let (place, mark) = (place(folder.path()), Digest::of(b"url"));
        let mut file = WholeFile::open(&place, mark).unwrap();
        assert_eq!(file.resumable(), None);
        file.begin(0, strong()).unwrap();
        file.add(b"hello ").unwrap();
        file.save();
        file.add(b"lost").unwrap();
        assert!(matches!(WholeFile::open(&place, mark), Err(SinkError::Busy(_))));
        drop(file);

        let mut file = WholeFile::open(&place, mark).unwrap();
        assert_eq!(file.resumable(), Some((6, strong())), "what was added after the last note is not believed");
        file.begin(6, strong()).unwrap();
        file.add(b"world").unwrap();
        assert_eq!(file.sha256(), Digest::of(b"hello world"));
        file.save();
        drop(file);

        std::fs::write(place.part_path(), b"hellO world").unwrap();
        let mut file = WholeFile::open(&place, mark).unwrap();
        assert_eq!(file.resumable(), None);
        file.begin(0, strong()).unwrap();
        file.add(b"anew").unwrap();
        file.finish().unwrap();
        assert_eq!(std::fs::read(place.path()).unwrap(), b"anew");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn without_a_validator_nothing_is_gone_on_with() {
        let folder = tempfile::tempdir().unwrap();
        let (place, mark) = (place(folder.path()), Digest::of(b"url"));
        let mut file = WholeFile::open(&place, mark).unwrap();
        file.begin(0, Validator::None).unwrap();
        file.add(b"hello").unwrap();
        file.save();
        drop(file);
        assert_eq!(WholeFile::open(&place, mark).unwrap().resumable(), None);
    }

    #[test]
    fn what_is_of_no_use_leaves_nothing_behind_unless_it_is_somebody_elses_by_now() {
        let folder = tempfile::tempdir().unwrap();
        let (place, mark) = (place(folder.path()), Digest::of(b"url"));
        let entries = || std::fs::read_dir(folder.path()).unwrap().count();
        let mut file = WholeFile::open(&place, mark).unwrap();
        file.begin(0, strong()).unwrap();
        file.add(b"hello").unwrap();
        file.discard();
        assert_eq!(entries(), 0);
        let file = WholeFile::open(&place, mark).unwrap();
        std::fs::remove_file(place.part_path()).unwrap();
        std::fs::write(place.part_path(), b"a letter").unwrap();
        file.discard();
        assert_eq!(std::fs::read(place.part_path()).unwrap(), b"a letter");
    }

    #[test]
    fn what_is_somebody_elses_stays() {
        let folder = tempfile::tempdir().unwrap();
        let place = place(folder.path());
        std::fs::write(place.part_path(), b"a letter").unwrap();
        assert!(matches!(WholeFile::open(&place, Digest::of(b"url")), Err(SinkError::Foreign(_))));
        assert_eq!(std::fs::read(place.part_path()).unwrap(), b"a letter");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        std::fs::write(place.path(), b"taken").unwrap();
        assert!(matches!(WholeFile::open(&place, Digest::of(b"url")), Err(SinkError::Exists(_))));
    }
}
