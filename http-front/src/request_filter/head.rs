//! The check of request heads. Where RFC 9112 leaves a choice to the server, the strict one is taken.
//!
//! A head that two parsers could read in two ways is rejected, because the other parser may be a proxy in front of this server.

use axum::http::{Method, uri::Authority};
use wire::Problem;

use super::target;

/// Largest head in bytes, request line and header fields together.
pub(super) const MAX_HEAD_SIZE: usize = 32 * 1024;
/// Largest number of header fields.
pub(super) const MAX_HEADER_FIELDS: usize = 100;
/// Largest `Content-Length`: no file is larger.
const MAX_CONTENT_LENGTH: u64 = 1 << 50;

/// Rule that gives the end of a request (RFC 9112 §6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// The request ends after this many bytes of body.
    Length(u64),
    /// The request ends after the last chunk and the trailers.
    Chunked,
}

/// Checks a head that ends with an empty line, and returns the framing of its body.
pub(super) fn check(head: &[u8]) -> Result<Framing, Problem> {
    check_lines(head)?;
    let mut fields = [httparse::EMPTY_HEADER; MAX_HEADER_FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    let parsed = request.parse(head).map_err(unparsable)?;
    let (httparse::Status::Complete(length), Some(method), Some(path), Some(minor)) =
        (parsed, request.method, request.path, request.version)
    else {
        return Err(bad("the request head is incomplete"));
    };
    if length != head.len() {
        return Err(bad("the request head does not end with an empty line"));
    }
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| bad("the method is not a token"))?;
    target::check(&method, path)?;
    let fields = Fields(request.headers);
    check_host(&fields, minor)?;
    fields.single("authorization")?;
    framing(&fields, minor)
}

/// Rejects first bytes that cannot begin a head, such as TLS, so that the connection does not wait for the rest.
pub(super) fn check_start(start: &[u8]) -> Result<(), Problem> {
    match start.first() {
        Some(0x16) => {
            Err(bad("this port expects plain HTTP and received TLS: use http://, or the address of the TLS proxy"))
        }
        Some(byte) if !byte.is_ascii_alphanumeric() => Err(bad("the first byte cannot begin an HTTP request")),
        _ => Ok(()),
    }
}

/// Returns the problem of a head that is longer than [`MAX_HEAD_SIZE`].
pub(super) fn too_large(start: &[u8]) -> Problem {
    if start.contains(&b'\n') {
        fields_too_large()
    } else {
        Problem::new(414, "target-too-long", "URI too long")
            .detail("the request line is longer than the server accepts")
    }
}

/// Checks the line endings. A lone CR or LF ends a line for some parsers and not for others (RFC 9112 §2.2); the same holds for
/// a line that begins with white space (§5.2).
fn check_lines(head: &[u8]) -> Result<(), Problem> {
    let mut rest = head;
    while let Some(end) = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n')) {
        rest = match rest.get(end..) {
            Some([b'\r', b'\n', b' ' | b'\t', ..]) => {
                return Err(bad("a header field is folded over two lines: send it in one line (RFC 9112 §5.2)"));
            }
            Some([b'\r', b'\n', next @ ..]) => next,
            // The end of what is there.
            Some([b'\r']) | None => return Ok(()),
            Some(_) => {
                return Err(bad("a line of the request head ends with a lone CR or LF: end lines with CR LF"));
            }
        };
    }
    Ok(())
}

struct Fields<'a>(&'a [httparse::Header<'a>]);

impl<'a> Fields<'a> {
    fn all(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.0.iter().filter(move |field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
    }

    /// Returns the value of a field that may occur once.
    fn single(&self, name: &str) -> Result<Option<&'a [u8]>, Problem> {
        let mut values = self.all(name);
        let value = values.next();
        if values.next().is_some() {
            return Err(bad(&format!("the header field {name} occurs more than once: send it once")));
        }
        Ok(value)
    }
}

/// Requires exactly one valid `Host` (RFC 9112 §3.2); HTTP/1.0 may omit it.
fn check_host(fields: &Fields<'_>, minor: u8) -> Result<(), Problem> {
    let Some(host) = fields.single("host")? else {
        return if minor == 0 { Ok(()) } else { Err(bad("the header field host is missing: HTTP/1.1 requires it")) };
    };
    let authority = std::str::from_utf8(host).ok().and_then(|host| host.trim().parse::<Authority>().ok());
    let valid = authority.is_some_and(|authority| !authority.as_str().contains('@') && !authority.host().is_empty());
    if valid { Ok(()) } else { Err(bad("the header field host is not valid: send host or host:port")) }
}

fn framing(fields: &Fields<'_>, minor: u8) -> Result<Framing, Problem> {
    let length = fields.single("content-length")?;
    let Some(coding) = fields.single("transfer-encoding")? else {
        return length.map_or(Ok(Framing::Length(0)), |length| content_length(length).map(Framing::Length));
    };
    if length.is_some() {
        return Err(bad("content-length and transfer-encoding are both present: send one of them"));
    }
    if minor == 0 {
        return Err(bad("HTTP/1.0 does not define transfer-encoding: send content-length"));
    }
    if !coding.trim_ascii().eq_ignore_ascii_case(b"chunked") {
        return Err(bad("the only transfer-encoding accepted is chunked"));
    }
    Ok(Framing::Chunked)
}

fn content_length(value: &[u8]) -> Result<u64, Problem> {
    let digits = value.trim_ascii();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(bad("content-length is not a decimal number"));
    }
    let length =
        std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()).filter(|n| *n <= MAX_CONTENT_LENGTH);
    length.ok_or_else(|| Problem::new(413, "too-large", "Content too large").with("most", MAX_CONTENT_LENGTH))
}

fn unparsable(error: httparse::Error) -> Problem {
    match error {
        httparse::Error::TooManyHeaders => fields_too_large(),
        httparse::Error::Version => Problem::new(505, "version", "HTTP version not supported")
            .detail("use HTTP/1.1; for HTTP/2 put a proxy in front of the server"),
        other => bad(&other.to_string()),
    }
}

fn fields_too_large() -> Problem {
    Problem::new(431, "head-too-large", "Request header fields too large")
        .detail(format!(
            "a request head has at most {MAX_HEADER_FIELDS} header fields and {MAX_HEAD_SIZE} bytes: send fewer"
        ))
        .with("most_bytes", MAX_HEAD_SIZE)
        .with("most_fields", MAX_HEADER_FIELDS)
}

fn bad(detail: &str) -> Problem {
    Problem::new(400, "bad-request", "Bad request").detail(detail)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn status(head: &str) -> u16 {
        check(head.as_bytes()).map_or_else(|problem| problem.status, |_| 200)
    }

    #[test]
    fn bodies_are_framed_in_one_way_or_refused() {
        for (fields, expected) in [
            ("", Ok(Framing::Length(0))),
            ("content-length: 7\r\n", Ok(Framing::Length(7))),
            ("transfer-encoding: chunked\r\n", Ok(Framing::Chunked)),
            ("Transfer-Encoding: Chunked \r\n", Ok(Framing::Chunked)),
            ("content-length: 7\r\ntransfer-encoding: chunked\r\n", Err(400)),
            ("transfer-encoding: chunked\r\ncontent-length: 0\r\n", Err(400)),
            ("content-length: 7\r\ncontent-length: 8\r\n", Err(400)),
            ("content-length: 7\r\ncontent-length: 7\r\n", Err(400)),
            ("content-length: 7, 8\r\n", Err(400)),
            ("content-length: +7\r\n", Err(400)),
            ("content-length: -7\r\n", Err(400)),
            ("content-length: 0x7\r\n", Err(400)),
            ("content-length:\r\n", Err(400)),
            ("content-length: 99999999999999999999\r\n", Err(413)),
            ("transfer-encoding: gzip\r\n", Err(400)),
            ("transfer-encoding: gzip, chunked\r\n", Err(400)),
            ("transfer-encoding: chunked, chunked\r\n", Err(400)),
            ("transfer-encoding: xchunked\r\n", Err(400)),
            ("transfer-encoding: \x0bchunked\r\n", Err(400)),
            ("transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n", Err(400)),
            ("transfer-encoding : chunked\r\n", Err(400)),
            ("content-length: 7\r\n transfer-encoding: chunked\r\n", Err(400)),
        ] {
            let found = check(format!("POST / HTTP/1.1\r\nhost: x\r\n{fields}\r\n").as_bytes());
            assert_eq!(found.map_err(|problem| problem.status), expected, "{fields:?}");
        }
    }

    #[test]
    fn heads_that_two_parsers_could_read_differently_are_refused() {
        let crowd = |n: usize| (0..n).map(|i| format!("f{i}: x\r\n")).collect::<String>();
        for (head, expected) in [
            ("GET / HTTP/1.1\r\nhost: x\r\n\r\n", 200),
            ("GET / HTTP/1.1\r\nHost: x:80\r\n\r\n", 200),
            ("GET / HTTP/1.1\r\nhost: [::1]:80\r\n\r\n", 200),
            ("GET / HTTP/1.0\r\n\r\n", 200),
            ("GET http://a/ HTTP/1.1\r\nhost: b\r\n\r\n", 200),
            ("GET / HTTP/1.1\r\nhost: x\r\nauthorization: a\r\n\r\n", 200),
            ("GET / HTTP/1.1\r\nhost: x\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n", 200),
            ("GET / HTTP/1.1\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nhost:\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nhost: a b\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nhost: u@x\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nhost: x/y\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nhost: x\r\nhost: x\r\n\r\n", 400),
            ("GET / HTTP/1.0\r\nhost: x\r\nhost: y\r\n\r\n", 400),
            ("GET / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nhost: x\r\nauthorization: a\r\nAuthorization: a\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nhost: x\r\na: b\r\n c\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\n host: x\r\n\r\n", 400),
            ("GET / HTTP/1.1\nhost: x\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nhost: x\ra: b\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nhost: x\0\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nhost : x\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nhost: x\r\n: y\r\n\r\n", 400),
            ("GET /\r\n\r\n", 400),
            ("GET / HTTP/1.2\r\nhost: x\r\n\r\n", 505),
            ("GET / HTTP/2.0\r\nhost: x\r\n\r\n", 505),
            ("PRI * HTTP/2.0\r\n\r\n", 505),
            ("GET  / HTTP/1.1\r\nhost: x\r\n\r\n", 400),
            ("G(T / HTTP/1.1\r\nhost: x\r\n\r\n", 400),
            (&format!("GET / HTTP/1.1\r\nhost: x\r\n{}\r\n", crowd(99)), 200),
            (&format!("GET / HTTP/1.1\r\nhost: x\r\n{}\r\n", crowd(100)), 431),
        ] {
            assert_eq!(status(head), expected, "{head:?}");
        }
    }

    #[test]
    fn bytes_that_cannot_begin_a_head_are_refused_at_once() {
        for (start, expected) in
            [(&b"G"[..], true), (b"\x16\x03\x01", false), (b"\0", false), (b"{", false), (b" GET", false)]
        {
            assert_eq!(check_start(start).is_ok(), expected, "{start:?}");
        }
    }

    /// Returns true if each CR is followed by a LF, each LF follows a CR, and no white space follows them.
    fn has_strict_lines(head: &[u8]) -> bool {
        head.windows(2).all(|pair| match pair {
            [b'\r', b'\n'] => true,
            [b'\r', _] | [_, b'\n'] | [b'\n', b' ' | b'\t'] => false,
            _ => true,
        }) && head.first() != Some(&b'\n')
    }

    proptest! {
        #[test]
        fn lines_are_checked_byte_by_byte(head in "[\r\n \ta]{0,8}|(a?\r\n){0,4}[ \ta\r\n]?") {
            prop_assert_eq!(check_lines(head.as_bytes()).is_ok(), has_strict_lines(head.as_bytes()), "{:?}", head);
        }

        #[test]
        fn any_bytes_are_checked_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = check(&bytes);
        }

        #[test]
        fn no_head_with_two_framings_is_accepted(
            fields in proptest::collection::vec(prop_oneof![
                Just("content-length: 3"), Just("Content-Length: 4"), Just("transfer-encoding: chunked"),
                Just("Transfer-Encoding: identity"), Just("a: b"),
            ], 0..5),
        ) {
            let head = format!("POST / HTTP/1.1\r\nhost: x\r\n{}\r\n", fields.iter().map(|f| format!("{f}\r\n")).collect::<String>());
            let framings = fields.iter().filter(|field| !field.starts_with('a')).count();
            prop_assert!(check(head.as_bytes()).is_err() || framings <= 1);
        }
    }
}
