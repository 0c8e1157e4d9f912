//! Sizes and rates in bytes, parsed alike by all programs.

use std::str::FromStr;

/// Suffixes of sizes with their number of bytes, in lower case. A single letter is binary, as in curl and dd.
const SUFFIXES: [(&str, u64); 20] = [
    ("", 1),
    ("b", 1),
    ("k", 1 << 10),
    ("ki", 1 << 10),
    ("kib", 1 << 10),
    ("kb", 1_000),
    ("m", 1 << 20),
    ("mi", 1 << 20),
    ("mib", 1 << 20),
    ("mb", 1_000_000),
    ("g", 1 << 30),
    ("gi", 1 << 30),
    ("gib", 1 << 30),
    ("gb", 1_000_000_000),
    ("t", 1 << 40),
    ("ti", 1 << 40),
    ("tib", 1 << 40),
    ("tb", 1_000_000_000_000),
    ("pib", 1 << 50),
    ("pb", 1_000_000_000_000_000),
];
/// Decimal places that a size may have.
const MAX_PLACES: u32 = 6;

/// Parses a size such as `100MiB`, `1.5G`, `64k` or `1048576`, for clap's `value_parser`. Upper and lower case are equal.
///
/// # Errors
/// Gives examples of a size.
pub fn size(text: &str) -> Result<u64, String> {
    let unclear = || format!("{text:?} is no size; a size looks like 1048576, 64k, 100MiB or 1.5G");
    let text = text.trim();
    let digits = text.find(|character: char| !character.is_ascii_digit() && character != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let suffix = suffix.trim().to_ascii_lowercase();
    let (_, unit) = SUFFIXES.into_iter().find(|(known, _)| *known == suffix).ok_or_else(unclear)?;
    let (whole, places) = number.split_once('.').unwrap_or((number, ""));
    let has_digits = whole.bytes().chain(places.bytes()).all(|byte| byte.is_ascii_digit()) && !whole.is_empty();
    let length = u32::try_from(places.len()).unwrap_or(u32::MAX);
    if !has_digits || length > MAX_PLACES || (number.ends_with('.')) {
        return Err(unclear());
    }
    let scale = 10_u128.pow(length);
    let value: u128 = format!("{whole}{places}").parse().map_err(|_| unclear())?;
    let bytes = value.checked_mul(u128::from(unit)).ok_or_else(unclear)? / scale;
    u64::try_from(bytes).map_err(|_| unclear())
}

/// Number of bytes that is parsed as [`size`] does, for settings of which a size is a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(pub u64);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        size(text).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_plain_numbers_or_have_a_suffix() {
        for (text, bytes) in [
            ("0", 0),
            ("1048576", 1 << 20),
            ("64k", 64 << 10),
            ("64K", 64 << 10),
            ("64 KiB", 64 << 10),
            ("100MiB", 100 << 20),
            ("100mib", 100 << 20),
            ("1M", 1 << 20),
            ("1.5G", 3 << 29),
            ("0.5k", 512),
            ("10GB", 10_000_000_000),
            ("2TiB", 2 << 40),
            ("18446744073709551615", u64::MAX),
            ("7B", 7),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for bad in [
            "",
            "k",
            "-1",
            "1.2.3",
            "1e6",
            "5 apples",
            "18446744073709551616",
            "99999999999T",
            ".5k",
            "1.k",
            "5%",
            "1.1234567k",
        ] {
            let error = size(bad).unwrap_err();
            assert!(error.contains("looks like"), "{bad}: {error}");
        }
    }
}
