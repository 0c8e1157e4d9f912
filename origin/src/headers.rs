//! Header fields of responses. None is trusted: a field that is malformed or contradicts itself counts as absent.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, DATE, HeaderMap, HeaderName, RETRY_AFTER, TRANSFER_ENCODING};
use wire::{Digest, range::ContentRange};

use crate::http_date;

/// Longest pause that an origin may ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// Returns the value of a field that occurs exactly once.
pub(crate) fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut all = headers.get_all(name).iter();
    let only = all.next()?;
    if all.next().is_some() { None } else { only.to_str().ok().map(str::trim) }
}

/// Returns the `Content-Length`, unless it is absent or contradictory. A transfer coding overrides it (RFC 9112 §6.3).
pub(crate) fn length(headers: &HeaderMap) -> Option<u64> {
    if headers.contains_key(TRANSFER_ENCODING) {
        return None;
    }
    let text = single(headers, &CONTENT_LENGTH)?;
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// Returns the `Content-Range`.
pub(crate) fn content_range(headers: &HeaderMap) -> Option<ContentRange> {
    single(headers, &CONTENT_RANGE)?.parse().ok()
}

/// Returns the pause that the origin asks for: in seconds, or as a date by its own clock (RFC 9110 §10.2.3).
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = single(headers, &RETRY_AFTER)?;
    let pause = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let (until, now) = (http_date::parse(text)?, http_date::parse(single(headers, &DATE)?)?);
            Duration::try_from(until.duration_since(now)).unwrap_or_default()
        }
    };
    Some(pause.min(MAX_RETRY_AFTER))
}

/// Returns the SHA-256 of the whole content: from `Repr-Digest` (RFC 9530), or from its predecessor `Digest` (RFC 3230).
pub(crate) fn sha256(headers: &HeaderMap) -> Option<Digest> {
    if let Some(field) = single(headers, &HeaderName::from_static("repr-digest")) {
        return Digest::from_field(field).ok();
    }
    let field = single(headers, &HeaderName::from_static("digest"))?;
    let (_, encoded) = field
        .split(',')
        .filter_map(|member| member.trim().split_once('='))
        .find(|(algorithm, _)| algorithm.eq_ignore_ascii_case("sha-256"))?;
    Digest::try_from(STANDARD.decode(encoded).ok()?.as_slice()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(all: &[(&'static str, &str)]) -> HeaderMap {
        let parse = |value: &str| reqwest::header::HeaderValue::from_bytes(value.as_bytes()).unwrap();
        HeaderMap::from_iter(all.iter().map(|(name, value)| (HeaderName::from_static(name), parse(value))))
    }

    #[test]
    fn retry_after_is_in_seconds_or_a_date_by_the_origins_own_clock() {
        let now = ("date", "Tue, 15 Nov 1994 12:45:26 GMT");
        for (value, expected) in [
            ("3", Some(3)),
            ("999999999", Some(3600)),
            ("Tue, 15 Nov 1994 12:45:36 GMT", Some(10)),
            ("Tue, 15 Nov 1994 12:45:16 GMT", Some(0)),
            ("Mon, 15 Nov 2094 12:45:16 GMT", Some(3600)),
            ("-1", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(
                retry_after(&headers(&[("retry-after", value), now])).map(|pause| pause.as_secs()),
                expected,
                "{value}"
            );
        }
        assert_eq!(retry_after(&headers(&[("retry-after", "Tue, 15 Nov 1994 12:45:36 GMT")])), None);
    }

    #[test]
    fn the_digest_of_the_whole_is_read_from_both_fields() {
        let digest = Digest::of(b"abc");
        let old = format!("md5=AA==,SHA-256={}", STANDARD.encode(digest.as_bytes()));
        assert_eq!(sha256(&headers(&[("repr-digest", &digest.to_field())])), Some(digest));
        assert_eq!(sha256(&headers(&[("digest", &old)])), Some(digest));
        for (name, value) in [
            ("repr-digest", "sha-256=:AA==:"),
            ("digest", "sha-256=AA=="),
            ("digest", "sha-256"),
            ("content-digest", &digest.to_field()),
        ] {
            assert_eq!(sha256(&headers(&[(name, value)])), None, "{name}: {value}");
        }
    }

    #[test]
    fn contradictory_lengths_count_as_absent() {
        assert_eq!(length(&headers(&[("content-length", "12")])), Some(12));
        for bad in ["", "-1", "+1", "1 2", "99999999999999999999", "0x1"] {
            assert_eq!(length(&headers(&[("content-length", bad)])), None, "{bad}");
        }
        let mut twice = headers(&[("content-length", "12")]);
        twice.append(CONTENT_LENGTH, "13".parse().unwrap());
        assert_eq!(length(&twice), None);
        assert_eq!(length(&headers(&[("content-length", "12"), ("transfer-encoding", "chunked")])), None);
    }
}
