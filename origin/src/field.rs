//! Header fields of answers, read with suspicion.

use std::{str, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use percent_encoding::percent_decode_str;
use reqwest::header::{
    CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, DATE, HeaderMap, HeaderName, RETRY_AFTER,
};
use wire::{Digest, FileName, OriginUrl, range::ContentRange};

use crate::version::date_of;

/// No origin has us wait longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// The value of a field that must stand there once.
pub(crate) fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut all = headers.get_all(name).iter();
    let only = all.next()?;
    if all.next().is_some() { None } else { only.to_str().ok().map(str::trim) }
}

/// The length that the answer's body is to have. Absent or contradictory: none.
pub(crate) fn length(headers: &HeaderMap) -> Option<u64> {
    let text = single(headers, &CONTENT_LENGTH)?;
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

pub(crate) fn content_range(headers: &HeaderMap) -> Option<ContentRange> {
    single(headers, &CONTENT_RANGE)?.parse().ok()
}

/// Whether the bytes are those of the content itself. A file that is compressed is often sent as if compression were the
/// way's (`x.tar.gz`, coding gzip): that is its own form all the same.
pub(crate) fn is_plain(url: &OriginUrl, headers: &HeaderMap) -> bool {
    let Some(coding) = headers.get(CONTENT_ENCODING) else { return true };
    let ends = match coding.to_str().map(str::to_ascii_lowercase).as_deref() {
        Ok("identity") => return true,
        Ok("gzip" | "x-gzip") => &[".gz", ".tgz", ".svgz"][..],
        Ok("x-bzip2" | "bzip2") => &[".bz2", ".tbz2"],
        Ok("x-xz" | "xz") => &[".xz", ".txz"],
        Ok("zstd") => &[".zst"],
        _ => &[],
    };
    single(headers, &CONTENT_ENCODING).is_some() && ends.iter().any(|end| url.url().path().ends_with(end))
}

/// When the origin may be asked again: in seconds, or as a date by its own clock (RFC 9110 §10.2.3).
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = single(headers, &RETRY_AFTER)?;
    let pause = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let (until, now) = (date_of(text)?, date_of(single(headers, &DATE)?)?);
            Duration::try_from(until.duration_since(now)).unwrap_or_default()
        }
    };
    Some(pause.min(LONGEST_PAUSE))
}

/// The SHA-256 of the whole content: `Repr-Digest` (RFC 9530), or `Digest`, which came before it (RFC 3230).
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

/// The name that the answer gives the file, made safe (RFC 6266): the extended form first, as it can say every name.
pub(crate) fn name(headers: &HeaderMap) -> Option<FileName> {
    // Origins send raw UTF-8 here, too.
    let value = headers.get(CONTENT_DISPOSITION)?.as_bytes();
    let text = String::from_utf8_lossy(value.get(..value.len().min(4096))?).into_owned();
    let parameters = parameters(&text);
    let find =
        |wanted: &str| parameters.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value);
    let extended = find("filename*").and_then(|value| {
        let (charset, rest) = value.split_once('\'')?;
        let (_, encoded) = rest.split_once('\'')?;
        // What is not UTF-8 (or ASCII, which is) has a plain form beside it.
        charset
            .eq_ignore_ascii_case("utf-8")
            .then(|| percent_decode_str(encoded).decode_utf8().ok()?.into_owned().into())?
    });
    let text: String = extended.or_else(|| find("filename").cloned())?;
    (!text.trim().is_empty()).then(|| FileName::tamed(&text))
}

/// The parameters after the first `;`, with quotes and escapes undone.
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

/// A quoted string without its quotes, and what follows it.
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
    use super::*;

    fn headers(all: &[(&'static str, &str)]) -> HeaderMap {
        let parse = |value: &str| reqwest::header::HeaderValue::from_bytes(value.as_bytes()).unwrap();
        HeaderMap::from_iter(all.iter().map(|(name, value)| (HeaderName::from_static(name), parse(value))))
    }

    #[test]
    fn names_of_origins_are_read_and_made_safe() {
        for (value, expected) in [
            ("attachment; filename=\"image.iso\"", Some("image.iso")),
            ("attachment; filename=image.iso", Some("image.iso")),
            ("attachment;filename=a.iso;size=3", Some("a.iso")),
            ("inline; FileName=\"a b;c=d.iso\"; x=y", Some("a b;c=d.iso")),
            (r#"attachment; filename="a\"b\\..\\c""#, Some("c")),
            ("attachment; filename=\"plain.txt\"; filename*=UTF-8''%e2%82%ac%20rates.txt", Some("€ rates.txt")),
            ("attachment; filename*=utf-8'en'%2e%2e%2fetc%2fpasswd", Some("passwd")),
            ("attachment; filename*=ISO-8859-1''%a3.txt; filename=\"pound.txt\"", Some("pound.txt")),
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
            let found = name(&headers(&[("content-disposition", value)]));
            assert_eq!(found.as_ref().map(FileName::as_str), expected, "{value}");
        }
        assert_eq!(name(&headers(&[])), None);
    }

    #[test]
    fn a_pause_is_seconds_or_a_date_by_the_origins_own_clock() {
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
    fn digests_of_the_whole_are_read_in_both_spellings() {
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
    fn a_coding_is_passed_over_only_when_it_is_the_files_own() {
        let plain =
            |url: &str, coding: &str| is_plain(&url.parse().unwrap(), &headers(&[("content-encoding", coding)]));
        assert!(
            plain("http://x/a.tar.gz?b", "gzip")
                && plain("http://x/a.tgz", "X-Gzip")
                && plain("http://x/a", "identity")
        );
        assert!(
            !plain("http://x/a.txt", "gzip") && !plain("http://x/a.gz", "br") && !plain("http://x/a.gz", "gzip, gzip")
        );
        assert!(!plain("http://x/a?b.gz", "gzip"));
        let mut twice = headers(&[("content-encoding", "gzip")]);
        twice.append(CONTENT_ENCODING, "br".parse().unwrap());
        assert!(!is_plain(&"http://x/a.gz".parse().unwrap(), &twice));
    }

    #[test]
    fn lengths_that_contradict_each_other_are_none() {
        assert_eq!(length(&headers(&[("content-length", "12")])), Some(12));
        for bad in ["", "-1", "+1", "1 2", "99999999999999999999", "0x1"] {
            assert_eq!(length(&headers(&[("content-length", bad)])), None, "{bad}");
        }
        let mut twice = headers(&[("content-length", "12")]);
        twice.append(CONTENT_LENGTH, "13".parse().unwrap());
        assert_eq!(length(&twice), None);
    }
}
