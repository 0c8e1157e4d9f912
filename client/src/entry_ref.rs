//! Names that users give files and jobs.

use std::{fmt, str::FromStr};

use wire::{FileId, id::IdPrefix};

/// Digits in the shortest beginning of an id that counts as one.
const MIN_ID_DIGITS: usize = 4;
/// Longest text, in bytes: the longest name.
const MAX_REF_LEN: usize = wire::name::MAX_NAME_LEN;

/// Text that names a file or a job: an id, the beginning of one, or a whole name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryRef(String);

/// Error of a text that can be neither an id nor a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("give an id, the beginning of one, or a name")]
pub struct EntryRefError;

impl FromStr for EntryRef {
    type Err = EntryRefError;

    fn from_str(text: &str) -> Result<Self, EntryRefError> {
        let fits = !text.trim().is_empty() && text.len() <= MAX_REF_LEN && !text.contains(char::is_control);
        if fits { Ok(Self(text.to_owned())) } else { Err(EntryRefError) }
    }
}

impl fmt::Display for EntryRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<FileId> for EntryRef {
    fn from(id: FileId) -> Self {
        Self(id.to_string())
    }
}

impl EntryRef {
    /// Returns the text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the beginning of an id that the text may be.
    pub(crate) fn id_prefix(&self) -> Option<IdPrefix> {
        let digits = self.0.bytes().filter(|byte| *byte != b'-').count();
        if digits < MIN_ID_DIGITS { None } else { self.0.parse().ok() }
    }

    /// Returns true if an entry has this name, or an id that begins so.
    pub(crate) fn denotes(&self, id: &[u8; 16], name: &str) -> bool {
        name == self.0 || self.id_prefix().is_some_and(|prefix| prefix.includes(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_denotes_entries_of_its_whole_name_and_ids_that_begin_so() {
        let text = "01a22865-ac96-774b-bcce-b302099a8057";
        let id: FileId = text.parse().unwrap();
        for (text, name, denotes) in [
            ("01a22865", "x", true),
            ("01a22865-ac96", "x", true),
            (text, "x", true),
            ("01a", "x", false),
            ("01A22865", "x", false),
            ("1a22865", "x", false),
            ("01a22865ac96", "x", true),
            ("my.bin", "my.bin", true),
            ("my", "my.bin", false),
            ("MY.BIN", "my.bin", false),
            ("beef", "beef", true),
        ] {
            assert_eq!(text.parse::<EntryRef>().unwrap().denotes(id.as_bytes(), name), denotes, "{text} {name}");
        }
        for bad in ["", "  ", "a\u{1b}b", "a\nb", &"x".repeat(MAX_REF_LEN + 1)] {
            assert!(bad.parse::<EntryRef>().is_err(), "{bad:?}");
        }
    }
}
