//! Strong validators: what tells one version of a content from every other (RFC 9110 §8.8).

use std::time::Duration;

use jiff::{Timestamp, fmt::rfc2822};
use reqwest::header::{DATE, ETAG, HeaderMap, LAST_MODIFIED};
use wire::job::Validator;

use crate::field::single;

/// The longest entity tag that is kept.
const MAX_TAG: usize = 512;
/// How much older than the answer a date of modification must be: clocks differ, and a file may change twice within a second
/// (§8.8.2.2).
const SETTLED: Duration = Duration::from_secs(60);

/// The strong validator in an answer, if there is one.
pub(crate) fn validator(headers: &HeaderMap) -> Validator {
    if let Some(tag) = single(headers, &ETAG).filter(|tag| is_strong(tag)) {
        return Validator::Etag(tag.to_owned());
    }
    // A weak tag says that the origin does not stand for every byte: then neither does the date.
    if headers.contains_key(ETAG) {
        return Validator::None;
    }
    match (single(headers, &LAST_MODIFIED), single(headers, &DATE)) {
        (Some(modified), Some(date)) if is_settled(modified, date) => Validator::LastModified(modified.to_owned()),
        _ => Validator::None,
    }
}

/// Whether an answer is of the version that `wanted` names.
pub(crate) fn same(wanted: &Validator, headers: &HeaderMap) -> Compared {
    let (found, wanted) = match wanted {
        Validator::None => return Compared::Same,
        Validator::Etag(tag) => (single(headers, &ETAG), tag),
        Validator::LastModified(date) => (single(headers, &LAST_MODIFIED), date),
    };
    match found {
        None => Compared::Untold,
        Some(found) if found == wanted => Compared::Same,
        Some(_) => Compared::Other,
    }
}

/// How two versions compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compared {
    Same,
    Other,
    Untold,
}

/// A quoted tag without `W/` (§8.8.3).
fn is_strong(tag: &str) -> bool {
    let inner = tag.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let is_tag_char = |byte: u8| byte == 0x21 || (0x23..=0x7e).contains(&byte);
    tag.len() <= MAX_TAG && inner.is_some_and(|inner| !inner.is_empty() && inner.bytes().all(is_tag_char))
}

fn is_settled(modified: &str, date: &str) -> bool {
    match (date_of(modified), date_of(date)) {
        (Some(modified), Some(date)) => modified.saturating_add(SETTLED).is_ok_and(|settled| settled <= date),
        _ => false,
    }
}

/// An HTTP date, in the one form that is still made (§5.6.7).
pub(crate) fn date_of(text: &str) -> Option<Timestamp> {
    let is_current = text.len() == 29 && text.ends_with(" GMT");
    is_current.then(|| rfc2822::parse(text).ok().map(|zoned| zoned.timestamp())).flatten()
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
        let long = format!("\"{}\"", "x".repeat(MAX_TAG));
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
        assert_eq!(same(&tag, &answer("etag", "\"a\"")), Compared::Same);
        assert_eq!(same(&tag, &answer("etag", "W/\"a\"")), Compared::Other);
        assert_eq!(same(&tag, &answer("last-modified", OLD)), Compared::Untold);
        assert_eq!(same(&Validator::LastModified(OLD.into()), &answer("last-modified", NOW)), Compared::Other);
        assert_eq!(same(&Validator::None, &answer("etag", "\"a\"")), Compared::Same);
    }
}
