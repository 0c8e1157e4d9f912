//! Which request targets are taken (RFC 9112 §3.2), and the one rule for paths of every route.
//!
//! A resource has one spelling: what another parser between here and the client could read as another path is refused
//! before any route is looked for.

use axum::http::{Method, Uri};
use wire::Problem;

/// The longest target in bytes, query included.
const MAX_TARGET: usize = 8 * 1024;
/// The longest path in bytes.
const MAX_PATH: usize = 1024;

/// Judges a target as it stands in the request line.
pub(super) fn judge(method: &Method, target: &str) -> Result<(), Problem> {
    if target.len() > MAX_TARGET {
        return Err(too_long(MAX_TARGET));
    }
    if *method == Method::CONNECT {
        return Err(Problem::new(501, "not-implemented", "This server is no proxy")
            .detail("CONNECT is not taken; send the request itself"));
    }
    if target == "*" {
        return if *method == Method::OPTIONS { Ok(()) } else { Err(bad("only OPTIONS takes the target *")) };
    }
    // The parser of URIs drops fragments without a word.
    if target.contains('#') {
        return Err(bad("a target has no fragment: leave out everything from #"));
    }
    let uri = Uri::try_from(target).map_err(|_| bad("the target is not a URI: percent-encode what stands in it"))?;
    if !target.starts_with('/') {
        absolute(&uri)?;
    }
    // As it was sent: the parsed form of an absolute target without a path is "/".
    path(uri.path())
}

/// The form that clients send to proxies; an origin takes it too (RFC 9112 §3.2.2).
fn absolute(uri: &Uri) -> Result<(), Problem> {
    let http = uri.scheme_str().is_some_and(|scheme| matches!(scheme, "http" | "https"));
    let authority = uri.authority().map(axum::http::uri::Authority::as_str);
    if http && authority.is_some_and(|authority| !authority.contains('@')) {
        return Ok(());
    }
    Err(bad("a target is a path that begins with /, or an http URL without user"))
}

fn path(path: &str) -> Result<(), Problem> {
    if path.len() > MAX_PATH {
        return Err(too_long(MAX_PATH));
    }
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        if segment.is_empty() && !last {
            return Err(bad("the path has an empty segment: write one / and not several"));
        }
        judge_segment(segment)?;
    }
    Ok(())
}

fn judge_segment(segment: &str) -> Result<(), Problem> {
    let decoded = decode(segment).ok_or_else(|| bad("the path has a % that no two hex digits follow"))?;
    if matches!(decoded.as_slice(), b"." | b"..") {
        return Err(bad("the path has a segment . or ..: write the path it leads to"));
    }
    if decoded.iter().any(|byte| matches!(byte, b'/' | b'\\') || byte.is_ascii_control()) {
        return Err(bad("the path has a backslash, a control character, or an encoded slash"));
    }
    if std::str::from_utf8(&decoded).is_err() {
        return Err(bad("the path is not UTF-8"));
    }
    // RFC 3986 §2.3: these mean the same in both spellings, and one is enough.
    let needless = segment.split('%').skip(1).any(|rest| {
        let byte = rest.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
    });
    if needless { Err(bad("the path has letters or digits in percent-encoding: write them plainly")) } else { Ok(()) }
}

fn decode(segment: &str) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(segment.len());
    let mut parts = segment.split('%');
    decoded.extend_from_slice(parts.next()?.as_bytes());
    for part in parts {
        let (digits, rest) = part.as_bytes().split_at_checked(2)?;
        // `from_str_radix` would take a sign.
        if !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        decoded.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
        decoded.extend_from_slice(rest);
    }
    Some(decoded)
}

fn bad(detail: &str) -> Problem {
    Problem::new(400, "bad-target", "The address of the request cannot be taken").detail(detail)
}

fn too_long(most: usize) -> Problem {
    Problem::new(414, "target-too-long", "The address of the request is too long")
        .detail(format!("at most {most} bytes are taken"))
        .with("most", most)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn status(method: &Method, target: &str) -> u16 {
        judge(method, target).map_or_else(|problem| problem.status, |()| 200)
    }

    #[test]
    fn one_spelling_is_taken_and_every_other_refused() {
        let long = format!("/{}", "a".repeat(MAX_PATH));
        let longer = format!("/?{}", "a".repeat(MAX_TARGET));
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
        fn what_is_taken_decodes_to_segments_that_are_names(path in "(/(\\.|%2[eEfF]|%5c|[a-z%/\\\\]|%00){0,6}){1,4}") {
            if judge(&Method::GET, &path).is_ok() {
                for segment in path.split('/').skip(1) {
                    let decoded = decode(segment).unwrap();
                    prop_assert!(decoded != b"." && decoded != b"..");
                    prop_assert!(!decoded.iter().any(|byte| b"/\\\0".contains(byte)));
                }
            }
        }
    }
}
