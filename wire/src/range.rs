//! Byte ranges of HTTP (RFC 9110 §14): half-open inside, inclusive only when printed.

use std::{fmt, ops::Range, str::FromStr};

/// Largest number of ranges in a request, and of parts in a response.
pub const MAX_PARTS: usize = 100;

/// Part of a representation that a `Range` header selects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// Whole representation, because there is no usable header: 200.
    Whole,
    /// One non-empty range inside the representation: 206.
    Single(Range<u64>),
    /// Two to [`MAX_PARTS`] non-empty ranges whose sum is at most the length, in the order of the request: 206 with
    /// `multipart/byteranges`.
    Several(Vec<Range<u64>>),
    /// Nothing to serve, a syntax error, or more ranges or bytes than allowed: 416.
    Unsatisfiable,
}

/// Returns what `header` (the value of `Range`) selects of a representation of `len` bytes (RFC 9110 §14.1–14.2).
///
/// Units other than `bytes` are ignored. Positions may have any number of digits; they saturate.
pub fn select(header: &str, len: u64) -> Selection {
    let Some((unit, set)) = header.split_once('=') else {
        // Without `=` there is no unit. An unknown unit is ignored; a bare `bytes` is a syntax error.
        return if header.trim().eq_ignore_ascii_case("bytes") { Selection::Unsatisfiable } else { Selection::Whole };
    };
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return Selection::Whole;
    }
    let mut parts = Vec::new();
    let mut specs = 0_usize;
    // An empty list element is allowed and ignored (RFC 9110 §5.6.1).
    for spec in set.split(',').map(|spec| spec.trim_matches([' ', '\t'])).filter(|spec| !spec.is_empty()) {
        specs += 1;
        match resolve(spec, len) {
            Ok(Some(part)) if specs <= MAX_PARTS => parts.push(part),
            Ok(None) if specs <= MAX_PARTS => {}
            Ok(_) | Err(Malformed) => return Selection::Unsatisfiable,
        }
    }
    let sum = parts.iter().fold(0_u64, |sum, part| sum.saturating_add(part.end - part.start));
    if sum > len {
        return Selection::Unsatisfiable;
    }
    match <[_; 1]>::try_from(parts) {
        // A suffix of an empty file is satisfiable, but no Content-Range can say so.
        Ok([part]) if part.is_empty() => Selection::Whole,
        Ok([part]) => Selection::Single(part),
        Err(parts) if parts.is_empty() => Selection::Unsatisfiable,
        Err(_) if len == 0 => Selection::Whole,
        Err(parts) => Selection::Several(parts),
    }
}

struct Malformed;

/// Resolves one range-spec. Returns `Ok(None)` if it is well-formed but selects nothing.
fn resolve(spec: &str, len: u64) -> Result<Option<Range<u64>>, Malformed> {
    let (first, last) = spec.split_once('-').ok_or(Malformed)?;
    if first.is_empty() {
        let suffix = position(last)?;
        return Ok((suffix > 0).then(|| len.saturating_sub(suffix)..len));
    }
    let first = position(first)?;
    let end = if last.is_empty() { len } else { position(last)?.saturating_add(1) };
    if !last.is_empty() && end <= first && first != u64::MAX {
        return Err(Malformed);
    }
    Ok((first < len).then(|| first..end.min(len)))
}

/// Parses a decimal of any length; a value that does not fit becomes the largest one.
fn position(digits: &str) -> Result<u64, Malformed> {
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Malformed);
    }
    Ok(digits.parse().unwrap_or(u64::MAX))
}

/// Returns the value of `Range` for `range`, which must not be empty.
pub fn request(range: &Range<u64>) -> String {
    format!("bytes={}-{}", range.start, range.end.saturating_sub(1))
}

/// Value of a `Content-Range` header (RFC 9110 §14.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContentRange {
    /// `bytes a-b/len` of a 206.
    Part {
        /// Bytes in the response body, never empty.
        range: Range<u64>,
        /// Length of the whole representation in bytes.
        len: u64,
    },
    /// `bytes */len` of a 416.
    Unsatisfied {
        /// Length of the whole representation in bytes.
        len: u64,
    },
}

/// Error of a `Content-Range` that contradicts itself or lacks a length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a Content-Range of a representation of known length")]
pub struct ContentRangeError;

impl fmt::Display for ContentRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Part { range, len } => write!(f, "bytes {}-{}/{len}", range.start, range.end.saturating_sub(1)),
            Self::Unsatisfied { len } => write!(f, "bytes */{len}"),
        }
    }
}

impl FromStr for ContentRange {
    type Err = ContentRangeError;

    fn from_str(text: &str) -> Result<Self, ContentRangeError> {
        // Unlike in a request, a number that does not fit is false here and not a position far away.
        let number = |digits: &str| -> Result<u64, ContentRangeError> {
            if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
                return Err(ContentRangeError);
            }
            digits.parse().map_err(|_| ContentRangeError)
        };
        let (unit, rest) = text.split_once(' ').ok_or(ContentRangeError)?;
        let (part, len) = rest.split_once('/').ok_or(ContentRangeError)?;
        if !unit.eq_ignore_ascii_case("bytes") {
            return Err(ContentRangeError);
        }
        let len = number(len)?;
        if part == "*" {
            return Ok(Self::Unsatisfied { len });
        }
        let (first, last) = part.split_once('-').ok_or(ContentRangeError)?;
        let (first, last) = (number(first)?, number(last)?);
        if first > last || last >= len {
            return Err(ContentRangeError);
        }
        Ok(Self::Part { range: first..last + 1, len })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_form_of_range_selects_what_the_rfc_says() {
        use Selection::{Several, Single, Unsatisfiable, Whole};
        let huge = format!("bytes=0-{}", "9".repeat(400));
        let far = format!("bytes={}-", "9".repeat(400));
        let far_both = format!("bytes={0}-{0}", "9".repeat(400));
        for (header, len, expected) in [
            ("bytes=0-0", 10, Single(0..1)),
            ("bytes=0-9", 10, Single(0..10)),
            ("bytes=5-", 10, Single(5..10)),
            ("bytes=5-99", 10, Single(5..10)),
            (huge.as_str(), 10, Single(0..10)),
            (far.as_str(), 10, Unsatisfiable),
            (far_both.as_str(), 10, Unsatisfiable),
            ("bytes=-3", 10, Single(7..10)),
            ("bytes=-99", 10, Single(0..10)),
            ("bytes=-0", 10, Unsatisfiable),
            ("bytes=10-", 10, Unsatisfiable),
            ("bytes=10-20", 10, Unsatisfiable),
            ("bytes=5-4", 10, Unsatisfiable),
            ("BYTES=0-1", 10, Single(0..2)),
            ("bytes= 0-1 , 4-5", 10, Several(vec![0..2, 4..6])),
            ("bytes=,,0-1,", 10, Single(0..2)),
            ("bytes=4-5,0-1", 10, Several(vec![4..6, 0..2])),
            ("bytes=0-1,99-", 10, Single(0..2)),
            ("bytes=0-8,1-9", 10, Unsatisfiable),
            ("bytes=", 10, Unsatisfiable),
            ("bytes=,", 10, Unsatisfiable),
            ("bytes", 10, Unsatisfiable),
            ("bytes=a-b", 10, Unsatisfiable),
            ("bytes=-", 10, Unsatisfiable),
            ("bytes=--1", 10, Unsatisfiable),
            ("bytes=1", 10, Unsatisfiable),
            ("bytes=+1-2", 10, Unsatisfiable),
            ("bytes=1 -2", 10, Unsatisfiable),
            ("bytes=0x1-2", 10, Unsatisfiable),
            ("lines=0-1", 10, Whole),
            ("", 10, Whole),
            ("bytes=0-", 0, Unsatisfiable),
            ("bytes=0-0", 0, Unsatisfiable),
            ("bytes=-5", 0, Whole),
            ("bytes=-5,-6", 0, Whole),
        ] {
            assert_eq!(select(header, len), expected, "{header} of {len}");
        }
    }

    #[test]
    fn more_than_a_hundred_ranges_are_refused() {
        let of = |n: usize| {
            format!("bytes={}", (0..n).map(|i| format!("{}-{}", 2 * i, 2 * i)).collect::<Vec<_>>().join(","))
        };
        assert!(matches!(select(&of(100), 10_000), Selection::Several(parts) if parts.len() == 100));
        assert_eq!(select(&of(101), 10_000), Selection::Unsatisfiable);
        assert_eq!(select(&of(1_300), 100), Selection::Unsatisfiable);
    }

    #[test]
    fn lying_content_ranges_are_refused() {
        for bad in [
            "",
            "bytes",
            "bytes 0-1",
            "bytes 0-1/*",
            "bytes 2-1/9",
            "bytes 0-9/9",
            "bytes -1/9",
            "bytes 0-1/99999999999999999999",
            "lines 0-1/9",
            "bytes 0-+1/9",
        ] {
            assert_eq!(bad.parse::<ContentRange>(), Err(ContentRangeError), "{bad}");
        }
        assert_eq!("bytes */7".parse(), Ok(ContentRange::Unsatisfied { len: 7 }));
    }

    proptest! {
        #[test]
        fn what_is_selected_lies_inside_and_within_the_length(header in "bytes=([0-9]{0,3}-[0-9]{0,3},? ?){0,5}", len in 0..500u64) {
            match select(&header, len) {
                Selection::Single(part) => prop_assert!(part.start < part.end && part.end <= len),
                Selection::Several(parts) => {
                    prop_assert!(parts.iter().all(|part| part.start < part.end && part.end <= len));
                    prop_assert!(parts.iter().map(|part| part.end - part.start).sum::<u64>() <= len);
                }
                Selection::Whole | Selection::Unsatisfiable => {}
            }
        }

        #[test]
        fn any_text_is_answered(header in "\\PC{0,40}", len in any::<u64>()) {
            let _ = select(&header, len);
        }

        #[test]
        fn a_request_selects_the_range_it_was_made_of(start in 0..1_000u64, n in 1..1_000u64, rest in 0..1_000u64) {
            let range = start..start + n;
            prop_assert_eq!(select(&request(&range), start + n + rest), Selection::Single(range.clone()));
            let printed = ContentRange::Part { range, len: start + n + rest };
            prop_assert_eq!(printed.to_string().parse::<ContentRange>(), Ok(printed));
        }
    }
}
