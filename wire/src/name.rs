//! The name of a published file: what a client may create in a folder of its user, and print on a terminal.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, de};

/// The longest name in bytes that every common file system can hold, with room for the `.part` beside it.
pub const MAX_NAME_LEN: usize = 240;

/// A file name that stays in its folder and is harmless on a terminal.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct FileName(String);

/// Why a text cannot be a file's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing, or nothing but dots or spaces.
    #[error("a file name must hold at least one character other than dots and spaces")]
    Empty,
    /// More than [`MAX_NAME_LEN`] bytes.
    #[error("a file name holds at most {MAX_NAME_LEN} bytes")]
    TooLong,
    /// A path rather than a name.
    #[error("a file name holds no '/' and no '\\'")]
    Separator,
    /// A control, direction or invisible character, which would make a terminal lie.
    #[error("a file name holds no control, direction-changing or invisible characters")]
    Unprintable,
    /// A name that would be taken for an option of a command.
    #[error("a file name does not begin with '-'")]
    Option,
}

impl FileName {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A name made of somebody else's text: what follows the last separator, without what a name must not hold and without
    /// what would hide the file (a `.profile` that one did not ask for), cut to length; `download` if nothing is left.
    pub fn tamed(text: &str) -> Self {
        let last = text.trim_end_matches(['/', '\\']).rsplit(['/', '\\']).next().unwrap_or_default();
        let shown: String = last.chars().filter(|c| !deceives(*c)).collect();
        let mut name = shown.trim_start_matches(|c: char| matches!(c, '-' | '.') || c.is_whitespace()).trim_end();
        while name.len() > MAX_NAME_LEN {
            let last = name.char_indices().next_back().map_or(0, |(at, _)| at);
            name = name.get(..last).unwrap_or_default();
        }
        name.trim_end().parse().unwrap_or_else(|_| Self("download".to_owned()))
    }
}

/// Characters that are not seen, or that change how the others are seen (Unicode TR 36 §2).
fn deceives(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{180e}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}'
        )
        || ('\u{200b}'..='\u{200f}').contains(&c)
        || ('\u{2028}'..='\u{202e}').contains(&c)
        || ('\u{2060}'..='\u{206f}').contains(&c)
        || ('\u{fff0}'..='\u{ffff}').contains(&c)
        || ('\u{e0000}'..='\u{e0fff}').contains(&c)
}

/// A text of somebody else's as it may be shown on a terminal: at most `most` characters, without those that would not be
/// seen or change how the others are seen.
pub fn plain(text: &str, most: usize) -> String {
    text.chars().filter(|c| !deceives(*c)).take(most).collect()
}

impl FromStr for FileName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.chars().all(|c| c == '.' || c.is_whitespace()) {
            return Err(NameError::Empty);
        }
        if text.len() > MAX_NAME_LEN {
            return Err(NameError::TooLong);
        }
        if text.contains(['/', '\\']) {
            return Err(NameError::Separator);
        }
        if text.chars().any(deceives) {
            return Err(NameError::Unprintable);
        }
        if text.starts_with('-') {
            return Err(NameError::Option);
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl<'de> Deserialize<'de> for FileName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_names_of_any_script_are_taken() {
        for good in ["a", "image-1.2.iso", "наука.tar", "データ.bin", ".profile", "a b.txt", "100%.txt"] {
            assert!(good.parse::<FileName>().is_ok(), "{good}");
        }
    }

    #[test]
    fn a_foreign_text_is_shown_without_what_talks_to_the_terminal() {
        assert_eq!(plain("a\u{1b}[2Jb\u{202e}c\nd", 100), "a[2Jbcd");
        assert_eq!(plain("наука", 3), "нау");
    }

    #[test]
    fn names_that_climb_hide_or_talk_to_the_terminal_are_refused() {
        let long = "x".repeat(MAX_NAME_LEN + 1);
        for (bad, why) in [
            ("", NameError::Empty),
            (".", NameError::Empty),
            ("..", NameError::Empty),
            (" . ", NameError::Empty),
            ("../x", NameError::Separator),
            ("a/b", NameError::Separator),
            ("a\\b", NameError::Separator),
            ("\u{1b}[2J", NameError::Unprintable),
            ("a\0b", NameError::Unprintable),
            ("a\nb", NameError::Unprintable),
            ("gpj\u{202e}.exe", NameError::Unprintable),
            ("a\u{200b}", NameError::Unprintable),
            ("-rf", NameError::Option),
            (&long, NameError::TooLong),
        ] {
            assert_eq!(bad.parse::<FileName>(), Err(why), "{bad:?}");
        }
    }
}
