//! Which request heads are taken: all that RFC 9112 leaves to a server is decided here, on the strict side.
//!
//! What two parsers could read in two ways is refused, because the other parser may be a proxy in front of this one.

use axum::http::{Method, uri::Authority};
use wire::Problem;

use super::target;

/// The largest head in bytes, request line and header fields together.
pub(super) const MAX_HEAD: usize = 32 * 1024;
/// The most header fields.
pub(super) const MAX_FIELDS: usize = 100;
/// The largest body anybody may announce: no file is larger.
const MAX_LENGTH: u64 = 1 << 50;

/// How the end of a request is found (RFC 9112 §6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// After this many bytes of body.
    Length(u64),
    /// After the last chunk.
    Chunked,
}

/// Judges a head that ends with an empty line; answers how its body is framed.
pub(super) fn judge(head: &[u8]) -> Result<Framing, Problem> {
    judge_lines(head)?;
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    let parsed = request.parse(head).map_err(unreadable)?;
    let (httparse::Status::Complete(length), Some(method), Some(path), Some(minor)) =
        (parsed, request.method, request.path, request.version)
    else {
        return Err(bad("the head breaks off"));
    };
    if length != head.len() {
        return Err(bad("the head ends where no empty line is"));
    }
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| bad("the method is not a token"))?;
    target::judge(&method, path)?;
    let fields = Fields(request.headers);
    judge_host(&fields, minor)?;
    fields.single("authorization")?;
    framing(&fields, minor)
}

/// Whether these first bytes of a head can become one at all: neither TLS nor noise is waited for.
pub(super) fn begins_well(start: &[u8]) -> Result<(), Problem> {
    match start.first() {
        Some(0x16) => Err(bad("this is TLS, and this port speaks plain HTTP: use http://, or the proxy's address")),
        Some(byte) if !byte.is_ascii_alphanumeric() => Err(bad("this is not HTTP")),
        _ => Ok(()),
    }
}

/// A head that does not end within the bound.
pub(super) fn too_large(start: &[u8]) -> Problem {
    if start.contains(&b'\n') {
        too_many_fields()
    } else {
        Problem::new(414, "target-too-long", "The address of the request is too long")
    }
}

/// The lines must end as the RFC says: a lone CR or LF is an end to some parsers and none to others (§2.2), and so is a line
/// that begins with white space (§5.2).
fn judge_lines(head: &[u8]) -> Result<(), Problem> {
    let mut before = 0;
    for byte in head {
        match (before, byte) {
            (b'\r', b'\n') => {}
            (b'\r', _) | (_, b'\n') => return Err(bad("a line ends with a lone CR or LF: end lines with CR LF")),
            (b'\n', b' ' | b'\t') => {
                return Err(bad("a header field goes on in the next line: write it in one (RFC 9112 §5.2)"));
            }
            _ => {}
        }
        before = *byte;
    }
    Ok(())
}

struct Fields<'a>(&'a [httparse::Header<'a>]);

impl<'a> Fields<'a> {
    fn all(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.0.iter().filter(move |field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
    }

    /// The value of a field that may stand there once.
    fn single(&self, name: &str) -> Result<Option<&'a [u8]>, Problem> {
        let mut values = self.all(name);
        let value = values.next();
        if values.next().is_some() {
            return Err(bad(&format!("the header field {name} stands there more than once: send it once")));
        }
        Ok(value)
    }
}

/// RFC 9112 §3.2: exactly one, and a valid one.
fn judge_host(fields: &Fields<'_>, minor: u8) -> Result<(), Problem> {
    let Some(host) = fields.single("host")? else {
        return if minor == 0 { Ok(()) } else { Err(bad("the header field host is missing: HTTP/1.1 demands it")) };
    };
    let authority = std::str::from_utf8(host).ok().and_then(|host| host.trim().parse::<Authority>().ok());
    let valid = authority.is_some_and(|authority| !authority.as_str().contains('@') && !authority.host().is_empty());
    if valid { Ok(()) } else { Err(bad("the header field host names no host: send host or host:port")) }
}

fn framing(fields: &Fields<'_>, minor: u8) -> Result<Framing, Problem> {
    let length = fields.single("content-length")?;
    let Some(coding) = fields.single("transfer-encoding")? else {
        return length.map_or(Ok(Framing::Length(0)), |length| content_length(length).map(Framing::Length));
    };
    if length.is_some() {
        return Err(bad("content-length and transfer-encoding contradict each other: send one of them"));
    }
    if minor == 0 {
        return Err(bad("HTTP/1.0 has no transfer-encoding: send content-length"));
    }
    if !coding.trim_ascii().eq_ignore_ascii_case(b"chunked") {
        return Err(bad("no transfer-encoding but chunked is taken"));
    }
    Ok(Framing::Chunked)
}

fn content_length(value: &[u8]) -> Result<u64, Problem> {
    let digits = value.trim_ascii();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(bad("content-length is not a number: send it once, in plain digits"));
    }
    let length = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()).filter(|n| *n <= MAX_LENGTH);
    length.ok_or_else(|| Problem::new(413, "too-large", "The body is too large").with("most", MAX_LENGTH))
}

fn unreadable(error: httparse::Error) -> Problem {
    match error {
        httparse::Error::TooManyHeaders => too_many_fields(),
        httparse::Error::Version => Problem::new(505, "version", "This version of HTTP is not spoken here")
            .detail("use HTTP/1.1; HTTP/2 needs a proxy in front"),
        other => bad(&other.to_string()),
    }
}

fn too_many_fields() -> Problem {
    Problem::new(431, "head-too-large", "The head of the request is too large")
        .detail(format!("at most {MAX_FIELDS} header fields and {MAX_HEAD} bytes in all are taken: send fewer"))
        .with("most_bytes", MAX_HEAD)
        .with("most_fields", MAX_FIELDS)
}

fn bad(detail: &str) -> Problem {
    Problem::new(400, "bad-request", "The request cannot be understood").detail(detail)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn status(head: &str) -> u16 {
        judge(head.as_bytes()).map_or_else(|problem| problem.status, |_| 200)
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
            let found = judge(format!("POST / HTTP/1.1\r\nhost: x\r\n{fields}\r\n").as_bytes());
            assert_eq!(found.map_err(|problem| problem.status), expected, "{fields:?}");
        }
    }

    #[test]
    fn heads_that_could_be_read_in_two_ways_are_refused() {
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
    fn what_can_never_become_a_head_is_not_waited_for() {
        for (start, well) in
            [(&b"G"[..], true), (b"\x16\x03\x01", false), (b"\0", false), (b"{", false), (b" GET", false)]
        {
            assert_eq!(begins_well(start).is_ok(), well, "{start:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = judge(&bytes);
        }

        #[test]
        fn no_head_with_two_framings_is_taken(
            fields in proptest::collection::vec(prop_oneof![
                Just("content-length: 3"), Just("Content-Length: 4"), Just("transfer-encoding: chunked"),
                Just("Transfer-Encoding: identity"), Just("a: b"),
            ], 0..5),
        ) {
            let head = format!("POST / HTTP/1.1\r\nhost: x\r\n{}\r\n", fields.iter().map(|f| format!("{f}\r\n")).collect::<String>());
            let framings = fields.iter().filter(|field| !field.starts_with('a')).count();
            prop_assert!(judge(head.as_bytes()).is_err() || framings <= 1);
        }
    }
}
