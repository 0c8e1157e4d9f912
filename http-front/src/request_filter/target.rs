//! The check of request targets (RFC 9112 §3.2), with one rule for the paths of all routes.
//!
//! A resource has one spelling. A path that another parser between client and server could read as a different path is
//! rejected before routing.

use axum::http::{Method, Uri};
use wire::Problem;

/// Longest target in bytes, query included.
const MAX_TARGET_SIZE: usize = 8 * 1024;
/// Longest path in bytes.
const MAX_PATH_SIZE: usize = 1024;

/// Checks a target as sent in the request line.
pub(super) fn check(method: &Method, target: &str) -> Result<(), Problem> {
    if target.len() > MAX_TARGET_SIZE {
        return Err(too_long(MAX_TARGET_SIZE));
    }
    if *method == Method::CONNECT {
        return Err(Problem::new(501, "not-implemented", "Not implemented")
            .detail("CONNECT is not supported: this server is no proxy"));
    }
    if is_plain(target) {
        return Ok(());
    }
    if target == "*" {
        return if *method == Method::OPTIONS { Ok(()) } else { Err(bad("the target * is valid for OPTIONS only")) };
    }
    // `Uri` drops fragments silently.
    if target.contains('#') {
        return Err(bad("the target has a fragment: leave out everything from # on"));
    }
    let uri =
        Uri::try_from(target).map_err(|_| bad("the target is not a URI: percent-encode its special characters"))?;
    if !target.starts_with('/') {
        check_absolute_form(&uri)?;
    }
    // An absolute target without a path is checked as "/", its parsed form.
    check_path(uri.path())
}

/// Returns true for a path that passes all checks below because of its characters alone: without a query, an escape or a dot,
/// no two parsers read it differently. Most requests name one, so it is not parsed.
fn is_plain(target: &str) -> bool {
    let mut previous = 0;
    let is_plain_byte = |byte: u8| {
        let doubled = byte == b'/' && previous == b'/';
        previous = byte;
        !doubled && (byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'_' | b'~'))
    };
    target.starts_with('/') && target.len() <= MAX_PATH_SIZE && target.bytes().all(is_plain_byte)
}

/// Checks the absolute form, which clients send to proxies and an origin server must accept too (RFC 9112 §3.2.2).
fn check_absolute_form(uri: &Uri) -> Result<(), Problem> {
    let http = uri.scheme_str().is_some_and(|scheme| matches!(scheme, "http" | "https"));
    let authority = uri.authority().map(axum::http::uri::Authority::as_str);
    if http && authority.is_some_and(|authority| !authority.contains('@')) {
        return Ok(());
    }
    Err(bad("the target is neither a path that begins with / nor an http URL without a user name"))
}

fn check_path(path: &str) -> Result<(), Problem> {
    if path.len() > MAX_PATH_SIZE {
        return Err(too_long(MAX_PATH_SIZE));
    }
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        if segment.is_empty() && !last {
            return Err(bad("the path has an empty segment: write one / instead of several"));
        }
        check_segment(segment)?;
    }
    Ok(())
}

fn check_segment(segment: &str) -> Result<(), Problem> {
    let decoded = decode(segment).ok_or_else(|| bad("the path has a % without two hex digits after it"))?;
    if matches!(decoded.as_slice(), b"." | b"..") {
        return Err(bad("the path has a segment . or ..: write the path that it resolves to"));
    }
    if decoded.iter().any(|byte| matches!(byte, b'/' | b'\\') || byte.is_ascii_control()) {
        return Err(bad("the path has a backslash, a control character, or an encoded slash"));
    }
    if std::str::from_utf8(&decoded).is_err() {
        return Err(bad("the path is not UTF-8"));
    }
    // Unreserved characters mean the same in both spellings (RFC 3986 §2.3); one is accepted.
    let needless = segment.split('%').skip(1).any(|rest| {
        let byte = rest.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
    });
    if needless { Err(bad("the path has percent-encoded letters or digits: write them unencoded")) } else { Ok(()) }
}

fn decode(segment: &str) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(segment.len());
    let mut parts = segment.split('%');
    decoded.extend_from_slice(parts.next()?.as_bytes());
    for part in parts {
        let (digits, rest) = part.as_bytes().split_at_checked(2)?;
        // `from_str_radix` would accept a sign.
        if !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        decoded.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
        decoded.extend_from_slice(rest);
    }
    Some(decoded)
}

fn bad(detail: &str) -> Problem {
    Problem::new(400, "bad-target", "Invalid request target").detail(detail)
}

fn too_long(max: usize) -> Problem {
    Problem::new(414, "target-too-long", "URI too long")
        .detail(format!("at most {max} bytes are accepted"))
        .with("most", max)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn status(method: &Method, target: &str) -> u16 {
        check(method, target).map_or_else(|problem| problem.status, |()| 200)
    }

    #[test]
    fn one_spelling_is_accepted_and_every_other_refused() {
        let long = format!("/{}", "a".repeat(MAX_PATH_SIZE));
        let longer = format!("/?{}", "a".repeat(MAX_TARGET_SIZE));
        for (target, expected) in [
            ("/", 200),
            ("/v1/files/", 200),
            ("/v1/files?q=..%2f%00//", 200),
            ("/v1/users/a%2Bb@example.org", 200),
            ("/%C3%A9", 200),
            ("http://host/v1", 200),
            ("http://host", 200),
            ("HTTP://host/", 200),
            ("/v1//files", 400),
            ("//host/v1", 400),
            ("/v1/../x", 400),
            ("/v1/./x", 400),
            ("/..", 400),
            ("/%2e%2e/x", 400),
            ("/.%2E/x", 400),
            ("/a%2fb", 400),
            ("/a%5Cb", 400),
            ("/a\\b", 400),
            ("/a%00", 400),
            ("/a%7f", 400),
            ("/a%0d%0ab", 400),
            ("/a%", 400),
            ("/a%4", 400),
            ("/a%+1", 400),
            ("/a%zz", 400),
            ("/%ff", 400),
            ("/%c0%ae%c0%ae/x", 400),
            ("/%61", 400),
            ("/a#b", 400),
            ("*", 400),
            ("host:80", 400),
            ("ftp://host/", 400),
            ("http://u:p@host/", 400),
            ("http://", 400),
            ("file:///etc/passwd", 400),
            (&long, 414),
            (&longer, 414),
        ] {
            assert_eq!(status(&Method::GET, target), expected, "{target}");
        }
        assert_eq!(status(&Method::OPTIONS, "*"), 200);
        assert_eq!(status(&Method::CONNECT, "host:80"), 501);
    }

    proptest! {
        #[test]
        fn a_path_that_is_not_parsed_would_be_accepted(path in "/[a-z0-9._~%?#/\\\\-]{0,12}", long in 1010..1030_usize) {
            for path in [path, format!("/{}", "a".repeat(long))] {
                if is_plain(&path) {
                    let uri = Uri::try_from(path.as_str()).unwrap();
                    prop_assert_eq!(uri.path(), path.as_str());
                    prop_assert!(check_path(uri.path()).is_ok());
                }
            }
        }

        #[test]
        fn accepted_paths_decode_to_segments_that_are_names(path in "(/(\\.|%2[eEfF]|%5c|[a-z%/\\\\]|%00){0,6}){1,4}") {
            if check(&Method::GET, &path).is_ok() {
                for segment in path.split('/').skip(1) {
                    let decoded = decode(segment).unwrap();
                    prop_assert!(decoded != b"." && decoded != b"..");
                    prop_assert!(!decoded.iter().any(|byte| b"/\\\0".contains(byte)));
                }
            }
        }
    }
}
