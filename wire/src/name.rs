//! Names of published files, which a client creates in its user's folder and prints on a terminal.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, de};

/// Longest name in bytes. Every common file system can hold it with `.part` appended.
pub const MAX_NAME_LEN: usize = 240;
/// Longest extension in bytes, without its dot, that a shortened name keeps.
const MAX_EXTENSION_LEN: usize = 15;

/// File name that stays in its folder and is harmless on a terminal.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct FileName(String);

/// Error of a text that cannot be a file name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The text has no character other than dots and spaces.
    #[error("a file name must hold at least one character other than dots and spaces")]
    Empty,
    /// The text has more than [`MAX_NAME_LEN`] bytes.
    #[error("a file name holds at most {MAX_NAME_LEN} bytes")]
    TooLong,
    /// The text is a path.
    #[error("a file name holds no '/' and no '\\'")]
    Separator,
    /// The text has a control, direction-changing or invisible character, which could falsify terminal output.
    #[error("a file name holds no control, direction-changing or invisible characters")]
    Unprintable,
    /// The text begins with `-`, so that a command would read it as an option.
    #[error("a file name does not begin with '-'")]
    Option,
}

impl FileName {
    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Derives a name from untrusted text: takes the part after the last separator, removes characters that a name must
    /// not have, a leading dot (a hidden file that the user did not ask for) and dots at the end (some systems drop them),
    /// and truncates it. The name of a device of Windows gets a leading `_`. Returns `download` if nothing is left.
    pub fn tamed(text: &str) -> Self {
        let last = text.trim_end_matches(['/', '\\']).rsplit(['/', '\\']).next().unwrap_or_default();
        let shown: String = visible(last).collect();
        let is_trailing = |c: char| c == '.' || c.is_whitespace();
        let name = shown.trim_start_matches(|c: char| matches!(c, '-' | '.') || c.is_whitespace());
        let name = name.trim_end_matches(is_trailing);
        let prefix = if is_device(name) { "_" } else { "" };
        let name = shortened(&format!("{prefix}{name}"));
        name.trim_end_matches(is_trailing).parse().unwrap_or_else(|_| Self("download".to_owned()))
    }

    /// Returns the name that a file of this name gets in a user's folder, if the user chose none: published names are text
    /// from outside like those of the web.
    #[must_use]
    pub fn local(&self) -> Self {
        Self::tamed(&self.0)
    }
}

/// Returns true for names that open a device on Windows and on its file systems, with any extension.
fn is_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default().trim_end().to_ascii_uppercase();
    let is_numbered =
        |digits: &str| digits.chars().count() == 1 && digits.starts_with(|c: char| "0123456789¹²³".contains(c));
    matches!(stem.as_str(), "CON" | "PRN" | "AUX" | "NUL" | "CONIN$" | "CONOUT$")
        || ["COM", "LPT"].iter().any(|device| stem.strip_prefix(device).is_some_and(is_numbered))
}

/// Shortens a name to [`MAX_NAME_LEN`] bytes in front of its extension, so that programs still recognise its type.
fn shortened(name: &str) -> String {
    if name.len() <= MAX_NAME_LEN {
        return name.to_owned();
    }
    let extension = extension(name);
    let mut end = MAX_NAME_LEN.saturating_sub(extension.len());
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    let stem = name.get(..end).unwrap_or_default().trim_end();
    format!("{stem}{extension}")
}

/// Returns the extension with its dot, and with `.tar` before it; empty if the name has none that programs know.
fn extension(name: &str) -> &str {
    let dot = |text: &str| text.rfind('.').filter(|at| *at > 0);
    let Some(at) = dot(name) else { return "" };
    let is_known = |text: &str| {
        (1..=MAX_EXTENSION_LEN).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    if !name.get(at + 1..).is_some_and(is_known) {
        return "";
    }
    let archive = name
        .get(..at)
        .and_then(dot)
        .filter(|archive| name.get(*archive..at).is_some_and(|text| text.eq_ignore_ascii_case(".tar")));
    name.get(archive.unwrap_or(at)..).unwrap_or_default()
}

/// Returns the characters of a text that neither are invisible nor change the display of others. Joiners (ZWNJ, ZWJ) stay where
/// scripts and emoji need them: between two characters beyond ASCII.
fn visible(text: &str) -> impl Iterator<Item = char> {
    with_visibility(text).filter(|shown| shown.is_visible).map(|shown| shown.c)
}

/// A character of a text.
struct Shown {
    c: char,
    is_visible: bool,
}

fn with_visibility(text: &str) -> impl Iterator<Item = Shown> {
    let mut before = None;
    let mut rest = text.chars().peekable();
    std::iter::from_fn(move || {
        let c = rest.next()?;
        let joins = |c: &char| !c.is_ascii() && !deceives(*c);
        let is_visible = if is_joiner(c) {
            before.as_ref().is_some_and(joins) && rest.peek().is_some_and(joins)
        } else {
            !deceives(c)
        };
        before = Some(c);
        Some(Shown { c, is_visible })
    })
}

const fn is_joiner(c: char) -> bool {
    matches!(c, '\u{200c}' | '\u{200d}')
}

/// Returns true for characters that are invisible or change the display of others (Unicode TR 36 §2).
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

/// Returns untrusted text for a terminal: at most `most` characters, without those that are invisible or change the
/// display of others.
pub fn plain(text: &str, most: usize) -> String {
    visible(text).take(most).collect()
}

/// Returns text for a terminal in which each character that is invisible or changes the display of others is escaped, as
/// `\u{1b}`. Nothing is lost: names that differ are shown differently.
pub fn escaped(text: &str) -> String {
    escape(text, false)
}

/// Returns text for a terminal like [`escaped`], but keeps the ends of its lines.
pub fn escaped_lines(text: &str) -> String {
    escape(text, true)
}

fn escape(text: &str, keeps_lines: bool) -> String {
    let mut escaped = String::with_capacity(text.len());
    for Shown { c, is_visible } in with_visibility(text) {
        if is_visible || keeps_lines && c == '\n' {
            escaped.push(c);
        } else {
            escaped.extend(c.escape_unicode());
        }
    }
    escaped
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
        if !visible(text).eq(text.chars()) {
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
    fn joiners_stay_between_characters_beyond_ascii_and_nowhere_else() {
        for good in ["می\u{200c}خواهم.pdf", "👨\u{200d}👩\u{200d}👧.png", "क्\u{200d}ष.txt"] {
            assert_eq!(good.parse::<FileName>().map(|name| name.as_str() == good), Ok(true), "{good}");
            assert_eq!(FileName::tamed(good).as_str(), good);
        }
        for (bad, tamed) in [
            ("a\u{200d}b", "ab"),
            ("ا\u{200c}", "ا"),
            ("\u{200c}ا", "ا"),
            ("ا\u{200c}\u{200c}ب", "اب"),
            ("ا\u{200c}.txt", "ا.txt"),
            ("ا\u{200c}\u{202e}ب", "اب"),
        ] {
            assert_eq!(bad.parse::<FileName>(), Err(NameError::Unprintable), "{bad:?}");
            assert_eq!(FileName::tamed(bad).as_str(), tamed, "{bad:?}");
        }
    }

    #[test]
    fn a_long_name_is_shortened_in_front_of_its_extension() {
        let kept = |stem: &str, end: &str| FileName::tamed(&format!("{stem}{end}"));
        for (end, expected) in [
            (".tar.gz", ".tar.gz"),
            (".TAR.zst", ".TAR.zst"),
            (".x.iso", ".iso"),
            (".with a sentence after the dot", ""),
            (".", ""),
            ("", ""),
            (".extensionthatisnone", ""),
        ] {
            for stem in ["漢".repeat(90), "y".repeat(400), "é".repeat(200)] {
                let name = kept(&stem, end);
                let text = name.as_str();
                assert!(text.len() <= MAX_NAME_LEN && text.len() > MAX_NAME_LEN - 4, "{} bytes: {text}", text.len());
                assert!(text.ends_with(expected), "{text}");
                let cut = text.strip_suffix(expected).unwrap();
                assert!(stem.starts_with(cut) || expected.is_empty() || end == ".x.iso", "{text}");
            }
        }
        assert_eq!(kept("y".repeat(233).as_str(), ".tar.gz").as_str().len(), MAX_NAME_LEN, "it is not shortened");
    }

    #[test]
    fn a_foreign_text_is_shown_without_what_talks_to_the_terminal() {
        assert_eq!(plain("a\u{1b}[2Jb\u{202e}c\nd", 100), "a[2Jbcd");
        assert_eq!(plain("наука", 3), "нау");
    }

    #[test]
    fn local_text_is_shown_with_what_talks_to_the_terminal_escaped() {
        assert_eq!(escaped("a\u{1b}[2J\u{9b}b\u{202e}\n\u{7f}"), r"a\u{1b}[2J\u{9b}b\u{202e}\u{a}\u{7f}");
        assert_eq!(escaped_lines("a\r\nb\tc"), "a\\u{d}\nb\\u{9}c");
        assert_eq!(escaped("наука 100% ✓ 👩\u{200d}🚀 a\u{200d}b"), "наука 100% ✓ 👩\u{200d}🚀 a\\u{200d}b");
    }

    #[test]
    fn a_tamed_name_is_visible_and_opens_a_plain_file_on_every_system() {
        let long = "é".repeat(200);
        for (text, name) in [
            (".bashrc", "bashrc"),
            ("..", "download"),
            ("x.", "x"),
            ("x. . .", "x"),
            ("CON", "_CON"),
            ("con.txt", "_con.txt"),
            ("Aux .tar.gz", "_Aux .tar.gz"),
            ("COM1", "_COM1"),
            ("lpt².log", "_lpt².log"),
            ("COM10", "COM10"),
            ("console", "console"),
            ("CON.", "_CON"),
            ("../../etc/passwd", "passwd"),
            ("a\\b", "b"),
            ("gpj\u{202e}.exe", "gpj.exe"),
            ("a\u{1b}[2J", "a[2J"),
            (" -rf ", "rf"),
            ("a.tar.gz", "a.tar.gz"),
            (&long, &"é".repeat(120)),
        ] {
            assert_eq!(FileName::tamed(text).as_str(), name, "{text:?}");
        }
        let published: FileName = ".profile".parse().unwrap();
        assert_eq!(published.local().as_str(), "profile");
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
