//! Versions of a file at an origin, told apart by strong validators (RFC 9110 §8.8).

use std::time::Duration;

use reqwest::header::{DATE, ETAG, HeaderMap, LAST_MODIFIED};
use wire::job::{Validator, VersionEvidence};

use crate::{headers::single, http_date};

/// Longest entity tag that is kept.
const MAX_ETAG_LEN: usize = 512;
/// Least age of a modification date, by the date of the response: clocks differ, and a file may change twice within a
/// second (§8.8.2.2).
const MIN_LAST_MODIFIED_AGE: Duration = Duration::from_secs(60);

/// A version of a file at an origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentVersion {
    /// Bytes in the whole file.
    pub size: u64,
    /// The validator of this version.
    pub validator: Validator,
}

/// The point at which an earlier download of a file was interrupted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResumePoint {
    /// Bytes that were received.
    pub offset: u64,
    /// The validator of the version that they belong to.
    pub validator: Validator,
}

/// The rest of a file whose origin gives no strong validator, or whose servers make different ones of the same content. The caller
/// requests bytes that it has, too, and compares them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rest {
    /// Offset of the first byte that is requested.
    pub offset: u64,
    /// The properties that the version had.
    pub evidence: VersionEvidence,
    /// Set if the entity tag may differ, because the SHA-256 of the file is known.
    pub tags_may_differ: bool,
}

/// Returns the strong validator of a response, if there is one.
pub(crate) fn validator(headers: &HeaderMap) -> Validator {
    if let Some(tag) = single(headers, &ETAG).filter(|tag| is_strong(tag)) {
        return Validator::Etag(tag.to_owned());
    }
    // A weak tag means that the origin does not vouch for every byte: then its date does not either.
    if headers.contains_key(ETAG) {
        return Validator::None;
    }
    match (single(headers, &LAST_MODIFIED), single(headers, &DATE)) {
        (Some(modified), Some(date)) if is_settled(modified, date) => Validator::LastModified(modified.to_owned()),
        _ => Validator::None,
    }
}

/// Returns all that a response states of its version; `size` is that of the whole file.
pub(crate) fn evidence(headers: &HeaderMap, size: Option<u64>) -> VersionEvidence {
    let field =
        |name| single(headers, name).filter(|text| !text.is_empty() && text.len() <= MAX_ETAG_LEN).map(str::to_owned);
    VersionEvidence { size, last_modified: field(&LAST_MODIFIED), etag: field(&ETAG) }
}

/// Compares the validator of a response with `expected`.
pub(crate) fn compare(expected: &Validator, headers: &HeaderMap) -> VersionMatch {
    let (found, expected) = match expected {
        Validator::None => return VersionMatch::Same,
        Validator::Etag(tag) => (single(headers, &ETAG), tag),
        Validator::LastModified(date) => (single(headers, &LAST_MODIFIED), date),
    };
    match found {
        None => VersionMatch::NotStated,
        Some(found) if found == expected => VersionMatch::Same,
        Some(_) => VersionMatch::Different,
    }
}

/// The result of a comparison of two versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum VersionMatch {
    Same,
    Different,
    /// The response has no such validator.
    NotStated,
}

/// Returns true for a quoted tag without `W/` (§8.8.3).
fn is_strong(tag: &str) -> bool {
    let inner = tag.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let is_tag_char = |byte: u8| byte == 0x21 || (0x23..=0x7e).contains(&byte);
    tag.len() <= MAX_ETAG_LEN && inner.is_some_and(|inner| !inner.is_empty() && inner.bytes().all(is_tag_char))
}

/// Returns true if a file modified at that date cannot have changed again by the date of the response.
fn is_settled(modified: &str, date: &str) -> bool {
    match (http_date::parse(modified), http_date::parse(date)) {
        (Some(modified), Some(date)) => {
            modified.saturating_add(MIN_LAST_MODIFIED_AGE).is_ok_and(|settled| settled <= date)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "Tue, 15 Nov 1994 12:45:26 GMT";
    const NOW: &str = "Tue, 15 Nov 1994 12:46:26 GMT";

    fn found(headers: &[(&'static str, &str)]) -> Validator {
        let headers: HeaderMap =
            headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        validator(&headers)
    }

    #[test]
    fn only_a_quoted_tag_without_w_is_strong() {
        assert_eq!(found(&[("etag", "\"a-1\"")]), Validator::Etag("\"a-1\"".into()));
        let long = format!("\"{}\"", "x".repeat(MAX_ETAG_LEN));
        for weak in ["W/\"a\"", "w/\"a\"", "a", "\"a", "a\"", "\"a\"b\"", "\"\"", "\"a b\"", "", &long] {
            assert_eq!(found(&[("etag", weak), ("last-modified", OLD), ("date", NOW)]), Validator::None, "{weak}");
        }
        let mut twice: HeaderMap = HeaderMap::from_iter([(ETAG, "\"a\"".parse().unwrap())]);
        twice.append(ETAG, "\"b\"".parse().unwrap());
        assert_eq!(validator(&twice), Validator::None);
    }

    #[test]
    fn a_date_counts_when_it_is_a_minute_older_than_the_answer() {
        assert_eq!(found(&[("last-modified", OLD), ("date", NOW)]), Validator::LastModified(OLD.into()));
        for (modified, date) in [
            (OLD, "Tue, 15 Nov 1994 12:46:25 GMT"),
            (NOW, OLD),
            (OLD, "yesterday"),
            ("Tuesday, 15-Nov-94 12:45:26 GMT", NOW),
            ("Tue, 15 Nov 1994 12:45:26 +0100", NOW),
            ("Sun, 31 Dec 9999 23:59:59 GMT", NOW),
        ] {
            assert_eq!(found(&[("last-modified", modified), ("date", date)]), Validator::None, "{modified} {date}");
        }
        assert_eq!(found(&[("last-modified", OLD)]), Validator::None);
        assert_eq!(found(&[]), Validator::None);
    }

    #[test]
    fn versions_are_compared_byte_by_byte() {
        let answer =
            |name: &'static str, value: &str| HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())]);
        let tag = Validator::Etag("\"a\"".into());
        assert_eq!(compare(&tag, &answer("etag", "\"a\"")), VersionMatch::Same);
        assert_eq!(compare(&tag, &answer("etag", "W/\"a\"")), VersionMatch::Different);
        assert_eq!(compare(&tag, &answer("last-modified", OLD)), VersionMatch::NotStated);
        assert_eq!(
            compare(&Validator::LastModified(OLD.into()), &answer("last-modified", NOW)),
            VersionMatch::Different
        );
        assert_eq!(compare(&Validator::None, &answer("etag", "\"a\"")), VersionMatch::Same);
    }
}
