//! The journal beside a `.part` file: which file the bytes belong to, and which chunks were verified.
//!
//! It is a hint and never trusted: chunks that it names are hashed again, and an invalid journal counts as none. It is
//! written in place and never synced, because a torn journal costs only time.

use std::{
    fs::File,
    io::Read as _,
    os::unix::fs::FileExt as _,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use wire::{ChunkSet, Digest, FileId, OriginUrl, job::Validator};

mod verified_prefix;

use self::verified_prefix::PrefixTracker;
pub(crate) use self::verified_prefix::VerifiedPrefix;

/// Longest journal that is read: more than 16,384 chunks need, every second one verified.
pub(crate) const MAX_JOURNAL_LEN: u64 = 256 << 10;
/// Least time between two writes of a journal.
pub(crate) const SAVE_INTERVAL: Duration = Duration::from_millis(500);

/// The file to which the bytes of a `.part` file belong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileIdentity {
    pub(crate) file: FileId,
    pub(crate) size: u64,
    pub(crate) root: Option<Digest>,
}

/// Earlier attempts whose bytes in the `.part` file may be resumed as if they were the file's own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PreviousAttempts {
    /// Earlier catalogue entries of the same content.
    pub files: Vec<FileId>,
    /// The [`origin_digest`] of the URL that the file comes from. What an earlier download of that URL left is resumed as far
    /// as its bytes match, and may be overwritten.
    pub origin: Option<Digest>,
    /// The validator of the version at that URL. The journal stores it for a direct download that continues this one.
    pub validator: Option<Validator>,
}

/// Returns what a journal stores of an origin's URL: its digest, because the URL may contain a secret.
pub fn origin_digest(url: &OriginUrl) -> Digest {
    Digest::of(url.url().as_str().as_bytes())
}

/// Returns what a journal stores of the object behind a URL: the digest of the URL without its query, in which a fresh link to the
/// same object has another signature.
pub fn object_digest(url: &OriginUrl) -> Digest {
    Digest::of(url.without_query().as_str().as_bytes())
}

impl FileIdentity {
    /// Returns true if both identify one file, or `self` one of the `previous` attempts. The root may have become known
    /// later.
    fn agrees(&self, other: &Self, previous: &PreviousAttempts) -> bool {
        let roots = self.root.zip(other.root);
        let same = self.file == other.file || previous.files.contains(&self.file);
        same && self.size == other.size && roots.is_none_or(|(one, two)| one == two)
    }
}

/// The JSON in the file.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct JournalContent {
    #[serde(flatten)]
    pub(crate) identity: FileIdentity,
    pub(crate) verified: ChunkSet,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    origin: Option<Digest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) validator: Option<Validator>,
    /// Absent if the file comes from no URL, and in journals of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) prefix: Option<VerifiedPrefix>,
}

/// The field that all journals of downloads from URLs have.
#[derive(Debug, Deserialize)]
struct OriginField {
    origin: Digest,
}

/// Parses the JSON at the beginning of a journal. After a power cut, the end of a longer text may stand behind it.
pub(crate) fn first_value<T: DeserializeOwned>(text: &[u8]) -> Option<T> {
    serde_json::Deserializer::from_slice(text).into_iter().next()?.ok()
}

/// Returns true if a journal was written by a download from `origin`.
pub(crate) fn was_written_for(text: &[u8], origin: Option<Digest>) -> bool {
    origin.is_some() && first_value::<OriginField>(text).map(|field| field.origin) == origin
}

/// Returns true if a text is the journal of any download.
pub(crate) fn is_journal(text: &[u8]) -> bool {
    first_value::<JournalContent>(text).is_some() || first_value::<OriginField>(text).is_some()
}

/// The content of a journal, as far as it concerns the `.part` file beside it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum JournalHint {
    /// Chunks of the same file that were verified once.
    Verified(ChunkSet),
    /// The bytes belong to another file.
    Foreign,
    /// Absence of a valid journal.
    Unusable,
}

/// The open journal.
#[derive(Debug)]
pub(crate) struct Journal {
    file: File,
    identity: FileIdentity,
    origin: Option<Digest>,
    validator: Option<Validator>,
    state: Mutex<JournalState>,
}

#[derive(Debug)]
struct JournalState {
    verified: ChunkSet,
    prefix: PrefixTracker,
    saved_at: Instant,
}

impl JournalState {
    fn new() -> Self {
        Self { verified: ChunkSet::new(), prefix: PrefixTracker::default(), saved_at: Instant::now() }
    }

    fn add(&mut self, n: u32, digest: Digest) {
        self.verified.insert(n..n + 1);
        self.prefix.add(n, digest);
    }
}

impl Journal {
    /// Opens the journal of a file that comes from the URL of `previous`, if from one.
    pub(crate) fn new(file: File, identity: FileIdentity, previous: &PreviousAttempts) -> Self {
        let state = Mutex::new(JournalState::new());
        Self { file, identity, origin: previous.origin, validator: previous.validator.clone(), state }
    }

    /// Reads what an earlier run left.
    pub(crate) fn read(&self, previous: &PreviousAttempts) -> JournalHint {
        let mut text = Vec::new();
        if (&self.file).take(MAX_JOURNAL_LEN).read_to_end(&mut text).is_err() {
            return JournalHint::Unusable;
        }
        match first_value::<JournalContent>(&text) {
            Some(content) if content.identity.agrees(&self.identity, previous) => {
                JournalHint::Verified(content.verified)
            }
            // Its chunks may differ from the file's own: hashing decides.
            _ if was_written_for(&text, previous.origin) => JournalHint::Verified(ChunkSet::new()),
            None => JournalHint::Unusable,
            Some(_) => JournalHint::Foreign,
        }
    }

    /// Adds a verified chunk, and writes the journal every [`SAVE_INTERVAL`].
    pub(crate) fn add(&self, n: u32, digest: Digest) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.add(n, digest);
        if state.saved_at.elapsed() >= SAVE_INTERVAL {
            state.saved_at = Instant::now();
            self.write(&state);
        }
    }

    /// Replaces the verified chunks, and writes the journal.
    pub(crate) fn replace(&self, verified: &ChunkSet, digests: &[Option<Digest>]) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        *state = JournalState::new();
        for n in verified.iter().flatten() {
            let digest = usize::try_from(n).ok().and_then(|n| *digests.get(n)?);
            digest.into_iter().for_each(|digest| state.add(n, digest));
        }
        self.write(&state);
    }

    /// Writes the journal now.
    pub(crate) fn save(&self) {
        self.write(&self.state.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Returns the open file.
    pub(crate) const fn file(&self) -> &File {
        &self.file
    }

    fn write(&self, state: &JournalState) {
        let content = JournalContent {
            identity: self.identity.clone(),
            verified: state.verified.clone(),
            origin: self.origin,
            validator: self.validator.clone(),
            prefix: self.origin.map(|_| state.prefix.prefix()),
        };
        let written = serde_json::to_vec(&content).map_err(std::io::Error::from).and_then(|text| {
            self.file.write_all_at(&text, 0)?;
            self.file.set_len(u64::try_from(text.len()).unwrap_or(0))
        });
        if let Err(error) = written {
            let file = self.identity.file;
            tracing::debug!(%file, %error, "The journal of file {file} was not written; resuming will hash more");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Seek as _, Write as _};

    use super::*;

    fn identity(root: Option<&[u8]>) -> FileIdentity {
        let file = "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap();
        FileIdentity { file, size: 7 << 20, root: root.map(Digest::of) }
    }

    fn journal(identity: FileIdentity, origin: Option<Digest>) -> Journal {
        let previous = PreviousAttempts { origin, ..PreviousAttempts::default() };
        Journal::new(tempfile::tempfile().unwrap(), identity, &previous)
    }

    fn reread(journal: &Journal, identity: FileIdentity) -> JournalHint {
        let mut file = journal.file.try_clone().unwrap();
        file.rewind().unwrap();
        Journal::new(file, identity, &PreviousAttempts::default()).read(&PreviousAttempts::default())
    }

    #[test]
    fn a_journal_counts_for_the_same_file_only() {
        let plain = journal(identity(None), None);
        [0, 1, 4].into_iter().for_each(|n| plain.add(n, Digest::of(b"")));
        plain.save();
        let runs: ChunkSet = [0..2, 4..5].into_iter().collect();
        assert_eq!(reread(&plain, identity(None)), JournalHint::Verified(runs.clone()));
        assert_eq!(reread(&plain, identity(Some(b"r"))), JournalHint::Verified(runs));
        assert_eq!(reread(&plain, FileIdentity { size: 1, ..identity(None) }), JournalHint::Foreign);
        assert_eq!(reread(&plain, FileIdentity { file: FileId::new(), ..identity(None) }), JournalHint::Foreign);
        let rooted = journal(identity(Some(b"r")), None);
        rooted.save();
        assert_eq!(reread(&rooted, identity(Some(b"other"))), JournalHint::Foreign);
    }

    #[test]
    fn what_an_earlier_download_of_the_same_url_left_is_resumed() {
        let mark = |url: &str| Some(origin_digest(&url.parse().unwrap()));
        let left = journal(identity(None), mark("https://example.org/x?a"));
        [0, 1].into_iter().for_each(|n| left.add(n, Digest::of(b"")));
        left.save();
        let read = |previous: &PreviousAttempts| {
            let mut file = left.file.try_clone().unwrap();
            file.rewind().unwrap();
            let identity = FileIdentity { file: FileId::new(), ..identity(None) };
            Journal::new(file, identity, &PreviousAttempts::default()).read(previous)
        };
        assert_eq!(
            read(&PreviousAttempts { files: vec![identity(None).file], ..PreviousAttempts::default() }),
            JournalHint::Verified(ChunkSet::from(0..2))
        );
        let same = PreviousAttempts { origin: mark("https://example.org/x?a"), ..PreviousAttempts::default() };
        assert_eq!(read(&same), JournalHint::Verified(ChunkSet::new()));
        assert_eq!(read(&PreviousAttempts { origin: mark("https://example.org/x?b"), ..same }), JournalHint::Foreign);
    }

    #[test]
    fn an_invalid_journal_is_no_hint_and_no_error() {
        let torn = br#"{"file":"01890a5d-ac96-774b-bcce-b302099a8057","size":1,"#.to_vec();
        let backwards = torn.iter().copied().chain(*br#""root":null,"verified":[[9,2]]}"#).collect();
        for text in [Vec::new(), b"\0\xff".to_vec(), torn, backwards, vec![b'['; 300 << 10]] {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&text).unwrap();
            file.rewind().unwrap();
            assert_eq!(
                Journal::new(file, identity(None), &PreviousAttempts::default()).read(&PreviousAttempts::default()),
                JournalHint::Unusable
            );
        }
    }
}
