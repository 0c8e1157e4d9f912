//! Names of files in responses (RFC 6266, RFC 8187). None is trusted.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, percent_decode_str, percent_encode};
use reqwest::header::{CONTENT_DISPOSITION, HeaderMap};
use wire::FileName;

/// Longest field that is read.
const MAX_FIELD_LEN: usize = 4096;
/// No ASCII character: [`percent_encode`] encodes all other bytes in any case.
const NOT_ASCII: &AsciiSet = &AsciiSet::EMPTY;

/// Returns the name that the response gives the file, made safe. The extended form comes first because it can express every
/// name.
pub(crate) fn of_response(headers: &HeaderMap) -> Option<FileName> {
    let value = headers.get(CONTENT_DISPOSITION)?.as_bytes();
    let text = text_of(value.get(..value.len().min(MAX_FIELD_LEN))?);
    let parameters = parameters(&text);
    let find =
        |wanted: &str| parameters.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value);
    let plain = || find("filename").cloned().filter(|name| !name.trim().is_empty());
    let extended = find("filename*").and_then(|value| Extended::parse(value));
    let name = match extended {
        Some(Extended::Decoded(name)) => name,
        // A name in a charset that is not known has a plain form beside it, or keeps its encoded form.
        Some(Extended::Encoded(name)) => plain().unwrap_or(name),
        None => plain()?,
    };
    (!name.trim().is_empty()).then(|| FileName::tamed(&name))
}

/// The value of an extended parameter (RFC 8187 §3.2).
enum Extended {
    Decoded(String),
    /// Value in a charset that is not known.
    Encoded(String),
}

impl Extended {
    fn parse(value: &str) -> Option<Self> {
        let (charset, rest) = value.split_once('\'')?;
        let (_, encoded) = rest.split_once('\'')?;
        let bytes: Vec<u8> = percent_decode_str(encoded).collect();
        Some(match charset.trim().to_ascii_lowercase().as_str() {
            "utf-8" | "utf8" | "us-ascii" | "" => String::from_utf8(bytes).map_or_else(
                |error| Self::Encoded(percent_encode(error.as_bytes(), NOT_ASCII).to_string()),
                Self::Decoded,
            ),
            "iso-8859-1" | "latin1" | "latin-1" => Self::Decoded(bytes.iter().copied().map(char::from).collect()),
            "windows-1252" | "cp1252" => Self::Decoded(bytes.iter().copied().map(windows_1252).collect()),
            _ => Self::Encoded(percent_encode(&bytes, NOT_ASCII).to_string()),
        })
    }
}

/// Returns the text of a field. Origins send raw UTF-8, ISO-8859-1 (RFC 9110 §5.5), and other charsets, whose bytes are encoded so
/// that two names stay different.
fn text_of(value: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(value) {
        Ok(text) => Cow::Borrowed(text),
        // ISO-8859-1 has controls there.
        Err(_) if value.iter().any(|byte| (0x80..0xa0).contains(byte)) => percent_encode(value, NOT_ASCII).into(),
        Err(_) => value.iter().copied().map(char::from).collect::<String>().into(),
    }
}

/// Returns a character of windows-1252, which differs from ISO-8859-1 in 0x80 to 0x9f.
fn windows_1252(byte: u8) -> char {
    const HIGH: [char; 32] = [
        '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}', '\u{90}', '‘',
        '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
    ];
    let high = byte.checked_sub(0x80).and_then(|at| HIGH.get(usize::from(at)));
    high.copied().unwrap_or(char::from(byte))
}

/// Returns the parameters after the first `;`, with quotes and escapes removed.
fn parameters(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = text.split_once(';').map_or("", |(_, rest)| rest);
    while let Some((name, after)) = rest.split_once('=') {
        let after = after.trim_start();
        let (value, next) = match after.strip_prefix('"') {
            Some(quoted) => unquote(quoted),
            None => {
                let (value, next) = after.split_once(';').unwrap_or((after, ""));
                (value.trim().to_owned(), next)
            }
        };
        found.push((name.trim().trim_start_matches(';').trim().to_owned(), value));
        rest = next;
    }
    found
}

/// Returns a quoted string without its quotes, and the text that follows it.
fn unquote(quoted: &str) -> (String, &str) {
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, quoted.get(at + 1..).unwrap_or_default()),
            '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;

    fn name(value: &[u8]) -> Option<String> {
        let value = HeaderValue::from_bytes(value).unwrap();
        of_response(&HeaderMap::from_iter([(CONTENT_DISPOSITION, value)])).map(|name| name.to_string())
    }

    #[test]
    fn names_from_origins_are_read_and_made_safe() {
        for (value, expected) in [
            ("attachment; filename=\"image.iso\"", Some("image.iso")),
            ("attachment; filename=image.iso", Some("image.iso")),
            ("attachment;filename=a.iso;size=3", Some("a.iso")),
            ("inline; FileName=\"a b;c=d.iso\"; x=y", Some("a b;c=d.iso")),
            (r#"attachment; filename="a\"b\\..\\c""#, Some("c")),
            ("attachment; filename=\"plain.txt\"; filename*=UTF-8''%e2%82%ac%20rates.txt", Some("€ rates.txt")),
            ("attachment; filename*=utf-8'en'%2e%2e%2fetc%2fpasswd", Some("passwd")),
            ("attachment; filename=\"наука.bin\"", Some("наука.bin")),
            ("attachment; filename=\"../../../root/.bashrc\"", Some("bashrc")),
            ("attachment; filename=\"..\"", Some("download")),
            ("attachment; filename=\"C:\\\\Windows\\\\x.exe\"", Some("x.exe")),
            ("attachment; filename=\"-rf\"", Some("rf")),
            ("attachment; filename=\"a\u{202e}exe.txt\"", Some("aexe.txt")),
            ("attachment; filename=\"unclosed", Some("unclosed")),
            ("attachment; filename=\"\"", None),
            ("attachment", None),
            ("attachment; filename", None),
            ("", None),
            ("; = ; =", None),
        ] {
            assert_eq!(name(value.as_bytes()).as_deref(), expected, "{value}");
        }
        assert_eq!(of_response(&HeaderMap::new()), None);
    }

    #[test]
    fn an_extended_name_is_decoded_from_its_charset_or_stays_distinct() {
        for (value, expected) in [
            ("filename*=ISO-8859-1''%a3%20rates.txt; filename=\"x.txt\"", "£ rates.txt"),
            ("filename*=iso-8859-1'en'caf%E9.txt", "café.txt"),
            ("filename*=windows-1252''%80.txt", "€.txt"),
            ("filename*=''%c3%a9.txt", "é.txt"),
            ("filename*=GBK''%C4%E3%BA%C3.zip; filename=\"plain.zip\"", "plain.zip"),
            ("filename*=GBK''%C4%E3%BA%C3.zip", "%C4%E3%BA%C3.zip"),
            ("filename*=GBK''%B2%E2%CA%D4.zip", "%B2%E2%CA%D4.zip"),
            ("filename*=UTF-8''%ff.txt; filename=\"plain.txt\"", "plain.txt"),
            ("filename*=UTF-8''%ff.txt", "%FF.txt"),
            ("filename*=nonsense; filename=plain.txt", "plain.txt"),
        ] {
            assert_eq!(name(format!("attachment; {value}").as_bytes()).as_deref(), Some(expected), "{value}");
        }
    }

    #[test]
    fn bytes_that_are_no_utf_8_give_different_names_with_their_extension() {
        let named = |bytes: &[u8]| name(&[b"attachment; filename=\"", bytes, b".zip\""].concat()).unwrap();
        assert_eq!(named(b"caf\xe9"), "café.zip");
        // GBK and Shift_JIS.
        assert_eq!(named(b"\xc4\xe3\xba\xc3"), "ÄãºÃ.zip");
        assert_eq!(named(b"\x93\xfa\x96\x7b"), "%93%FA%96{.zip");
        assert_ne!(named(b"\x93\xfa"), named(b"\x94\xfa"));
    }
}
