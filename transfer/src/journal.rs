//! The hints file beside a `.part` file: whose bytes these are, and which chunks are believed to be verified.
//!
//! It is never trusted: chunks it names are hashed again, and one that cannot be believed is as good as none. It is
//! written in place and never synced, because a torn one costs nothing.

use std::{
    fs::File,
    io::Read as _,
    os::unix::fs::FileExt as _,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use wire::{Digest, FileId, OriginUrl, Runs};

/// More than a journal of 16,384 chunks, every second one verified, takes.
pub(crate) const MAX_LEN: u64 = 256 << 10;
/// How often it is written at most.
pub(crate) const INTERVAL: Duration = Duration::from_millis(500);

/// Whose bytes a `.part` file holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) file: FileId,
    pub(crate) size: u64,
    pub(crate) root: Option<Digest>,
}

/// What else a `.part` file may hold that is as good as the file's own bytes, or the user's to go on with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kin {
    /// Catalogue entries that had the same content.
    pub formerly: Vec<FileId>,
    /// Where on the web the file comes from, by [`origin_mark`]: whatever an earlier download from there left may be
    /// gone on with, as far as its bytes are found right, and may be overwritten.
    pub origin: Option<Digest>,
}

/// What a journal keeps of an origin's URL, which may hold somebody's secret.
pub fn origin_mark(url: &OriginUrl) -> Digest {
    Digest::of(url.url().as_str().as_bytes())
}

impl Identity {
    /// Whether two are of one file. The root may have become known later.
    fn agrees(&self, other: &Self, kin: &Kin) -> bool {
        let roots = self.root.zip(other.root);
        let same = self.file == other.file || kin.formerly.contains(&self.file);
        same && self.size == other.size && roots.is_none_or(|(one, two)| one == two)
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Content {
    #[serde(flatten)]
    identity: Identity,
    verified: Runs,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    origin: Option<Digest>,
}

/// What is common to all journals of downloads from the web.
#[derive(Debug, Deserialize)]
struct OfOrigin {
    origin: Digest,
}

/// Whether a journal was written by a download from `origin`.
pub(crate) fn is_of(text: &[u8], origin: Option<Digest>) -> bool {
    origin.is_some() && serde_json::from_slice::<OfOrigin>(text).ok().map(|of| of.origin) == origin
}

/// What a journal says about the `.part` file beside it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Hint {
    /// These chunks were verified once.
    Verified(Runs),
    /// The bytes are of another file.
    Foreign,
    /// Nothing that can be believed.
    Nothing,
}

/// The open journal.
#[derive(Debug)]
pub(crate) struct Journal {
    file: File,
    identity: Identity,
    origin: Option<Digest>,
    state: Mutex<(Runs, Instant)>,
}

impl Journal {
    pub(crate) fn new(file: File, identity: Identity, origin: Option<Digest>) -> Self {
        Self { file, identity, origin, state: Mutex::new((Runs::new(), Instant::now())) }
    }

    /// What an earlier run left.
    pub(crate) fn read(&self, kin: &Kin) -> Hint {
        let mut text = Vec::new();
        if (&self.file).take(MAX_LEN).read_to_end(&mut text).is_err() {
            return Hint::Nothing;
        }
        match serde_json::from_slice::<Content>(&text) {
            Ok(content) if content.identity.agrees(&self.identity, kin) => Hint::Verified(content.verified),
            // Nothing is known of its chunks; whether some are right will be seen.
            _ if is_of(&text, kin.origin) => Hint::Verified(Runs::new()),
            Err(_) => Hint::Nothing,
            Ok(_) => Hint::Foreign,
        }
    }

    /// Notes verified chunks, and writes them down now and then.
    pub(crate) fn note(&self, runs: &Runs) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        runs.iter().for_each(|run| state.0.insert(run));
        if state.1.elapsed() >= INTERVAL {
            state.1 = Instant::now();
            self.write(&state.0);
        }
    }

    /// Writes down everything noted.
    pub(crate) fn save(&self) {
        self.write(&self.state.lock().unwrap_or_else(PoisonError::into_inner).0);
    }

    fn write(&self, verified: &Runs) {
        let content = Content { identity: self.identity.clone(), verified: verified.clone(), origin: self.origin };
        let written = serde_json::to_vec(&content).map_err(std::io::Error::from).and_then(|text| {
            self.file.write_all_at(&text, 0)?;
            self.file.set_len(u64::try_from(text.len()).unwrap_or(0))
        });
        if let Err(error) = written {
            tracing::debug!(%error, "the journal of a download was not written; a resumed download hashes more");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Seek as _, Write as _};

    use super::*;

    fn identity(root: Option<&[u8]>) -> Identity {
        let file = "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap();
        Identity { file, size: 7 << 20, root: root.map(Digest::of) }
    }

    fn reread(journal: &Journal, identity: Identity) -> Hint {
        let mut file = journal.file.try_clone().unwrap();
        file.rewind().unwrap();
        Journal::new(file, identity, None).read(&Kin::default())
    }

    #[test]
    fn a_journal_remembers_what_was_verified_for_the_same_file_only() {
        let journal = Journal::new(tempfile::tempfile().unwrap(), identity(None), None);
        journal.note(&Runs::from(0..2));
        journal.note(&Runs::from(4..5));
        journal.save();
        let runs: Runs = [0..2, 4..5].into_iter().collect();
        assert_eq!(reread(&journal, identity(None)), Hint::Verified(runs.clone()));
        assert_eq!(reread(&journal, identity(Some(b"r"))), Hint::Verified(runs));
        assert_eq!(reread(&journal, Identity { size: 1, ..identity(None) }), Hint::Foreign);
        assert_eq!(reread(&journal, Identity { file: FileId::new(), ..identity(None) }), Hint::Foreign);
        let rooted = Journal::new(tempfile::tempfile().unwrap(), identity(Some(b"r")), None);
        rooted.save();
        assert_eq!(reread(&rooted, identity(Some(b"other"))), Hint::Foreign);
    }

    #[test]
    fn what_an_earlier_download_of_the_same_url_left_is_gone_on_with() {
        let mark = |url: &str| Some(origin_mark(&url.parse().unwrap()));
        let left = Journal::new(tempfile::tempfile().unwrap(), identity(None), mark("https://example.org/x?a"));
        left.note(&Runs::from(0..2));
        left.save();
        let read = |kin: &Kin| {
            let mut file = left.file.try_clone().unwrap();
            file.rewind().unwrap();
            Journal::new(file, Identity { file: FileId::new(), ..identity(None) }, None).read(kin)
        };
        assert_eq!(read(&Kin { formerly: vec![identity(None).file], origin: None }), Hint::Verified(Runs::from(0..2)));
        let same = Kin { formerly: Vec::new(), origin: mark("https://example.org/x?a") };
        assert_eq!(read(&same), Hint::Verified(Runs::new()));
        assert_eq!(read(&Kin { origin: mark("https://example.org/x?b"), ..same }), Hint::Foreign);
    }

    #[test]
    fn an_unbelievable_journal_is_no_hint_and_no_error() {
        let torn = br#"{"file":"01890a5d-ac96-774b-bcce-b302099a8057","size":1,"#.to_vec();
        let backwards = torn.iter().copied().chain(*br#""root":null,"verified":[[9,2]]}"#).collect();
        for text in [Vec::new(), b"\0\xff".to_vec(), torn, backwards, vec![b'['; 300 << 10]] {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&text).unwrap();
            file.rewind().unwrap();
            assert_eq!(Journal::new(file, identity(None), None).read(&Kin::default()), Hint::Nothing);
        }
    }
}
