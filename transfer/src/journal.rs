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
use wire::{Digest, FileId, Runs};

/// More than a journal of 16,384 chunks, every second one verified, takes.
const MAX_LEN: u64 = 256 << 10;
/// How often it is written at most.
const INTERVAL: Duration = Duration::from_millis(500);

/// Whose bytes a `.part` file holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) file: FileId,
    pub(crate) size: u64,
    pub(crate) root: Option<Digest>,
}

impl Identity {
    /// Whether two are of one file. The root may have become known later.
    fn agrees(&self, other: &Self) -> bool {
        let roots = self.root.zip(other.root);
        self.file == other.file && self.size == other.size && roots.is_none_or(|(one, two)| one == two)
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Content {
    #[serde(flatten)]
    identity: Identity,
    verified: Runs,
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
    state: Mutex<(Runs, Instant)>,
}

impl Journal {
    pub(crate) fn new(file: File, identity: Identity) -> Self {
        Self { file, identity, state: Mutex::new((Runs::new(), Instant::now())) }
    }

    /// What an earlier run left.
    pub(crate) fn read(&self) -> Hint {
        let mut text = Vec::new();
        if (&self.file).take(MAX_LEN).read_to_end(&mut text).is_err() {
            return Hint::Nothing;
        }
        match serde_json::from_slice::<Content>(&text) {
            Err(_) => Hint::Nothing,
            Ok(content) if !content.identity.agrees(&self.identity) => Hint::Foreign,
            Ok(content) => Hint::Verified(content.verified),
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
        let content = Content { identity: self.identity.clone(), verified: verified.clone() };
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
        Journal::new(file, identity).read()
    }

    #[test]
    fn a_journal_remembers_what_was_verified_for_the_same_file_only() {
        let journal = Journal::new(tempfile::tempfile().unwrap(), identity(None));
        journal.note(&Runs::from(0..2));
        journal.note(&Runs::from(4..5));
        journal.save();
        let runs: Runs = [0..2, 4..5].into_iter().collect();
        assert_eq!(reread(&journal, identity(None)), Hint::Verified(runs.clone()));
        assert_eq!(reread(&journal, identity(Some(b"r"))), Hint::Verified(runs));
        assert_eq!(reread(&journal, Identity { size: 1, ..identity(None) }), Hint::Foreign);
        assert_eq!(reread(&journal, Identity { file: FileId::new(), ..identity(None) }), Hint::Foreign);
        let rooted = Journal::new(tempfile::tempfile().unwrap(), identity(Some(b"r")));
        rooted.save();
        assert_eq!(reread(&rooted, identity(Some(b"other"))), Hint::Foreign);
    }

    #[test]
    fn an_unbelievable_journal_is_no_hint_and_no_error() {
        let torn = br#"{"file":"01890a5d-ac96-774b-bcce-b302099a8057","size":1,"#.to_vec();
        let backwards = torn.iter().copied().chain(*br#""root":null,"verified":[[9,2]]}"#).collect();
        for text in [Vec::new(), b"\0\xff".to_vec(), torn, backwards, vec![b'['; 300 << 10]] {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&text).unwrap();
            file.rewind().unwrap();
            assert_eq!(Journal::new(file, identity(None)).read(), Hint::Nothing);
        }
    }
}
