//! The search for files by a part of their names. Pure.

use wire::{FileId, id::IdPrefix};

/// Characters in the shortest part that the index of names can find: it holds trigrams.
const MIN_INDEXED_CHARS: usize = 3;

/// A page of files that is asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct FileQuery<'a> {
    /// Part of the name; empty for every name.
    pub part: &'a str,
    /// Account that sees the list; none for one that sees all of it.
    pub viewer: Option<i64>,
    /// The last file of the page before; files are listed from the newest to the oldest.
    pub before: Option<FileId>,
    /// Beginning of the ids.
    pub ids: IdPrefix,
    /// Size in bytes of published files that no job made.
    pub size: Option<u64>,
}

/// The way in which names are compared with a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NameFilter<'a> {
    /// All names.
    All,
    /// A phrase of the index of names.
    Phrase(String),
    /// A part that the index cannot find: every name is compared.
    Short(&'a str),
}

impl<'a> NameFilter<'a> {
    /// Chooses the filter for a part.
    pub(crate) fn of(part: &'a str) -> Self {
        if part.is_empty() {
            Self::All
        } else if part.chars().count() >= MIN_INDEXED_CHARS && !part.contains(char::is_control) {
            // The index has a language of its own: in a phrase, a quotation mark is doubled.
            Self::Phrase(format!("\"{}\"", part.replace('"', "\"\"")))
        } else {
            Self::Short(part)
        }
    }

    /// Returns the text that the statement is given.
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::All => "",
            Self::Phrase(phrase) => phrase,
            Self::Short(part) => part,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_never_read_as_the_language_of_the_index() {
        for (part, filter) in [
            ("", NameFilter::All),
            ("ab", NameFilter::Short("ab")),
            ("ä√b", NameFilter::Phrase("\"ä√b\"".to_owned())),
            ("a\" OR b", NameFilter::Phrase("\"a\"\" OR b\"".to_owned())),
            ("abc\u{0}", NameFilter::Short("abc\u{0}")),
        ] {
            assert_eq!(NameFilter::of(part), filter, "{part:?}");
        }
    }
}
