//! The target of a redirect.
//!
//! Invariant: a redirect leads from https to http only where the caller compares the whole file with a digest that it knew before,
//! and no log-in goes that way.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use percent_encoding::{AsciiSet, percent_decode_str, percent_encode};
use reqwest::header::{HeaderMap, HeaderValue, LOCATION};
use url::Url;
use wire::{OriginUrl, job::JobReason, origin_url::MAX_ORIGIN_URL};

use crate::error::OriginError;

/// No ASCII character: [`percent_encode`] encodes all other bytes in any case.
const NOT_ASCII: &AsciiSet = &AsciiSet::EMPTY;

/// The rule for redirects from https to http.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Downgrade {
    /// They are refused.
    #[default]
    Refused,
    /// They are followed: the caller knows the digest of the whole file.
    Followed,
}

/// The target of a redirect.
#[derive(Debug)]
pub(crate) struct Redirect {
    pub(crate) url: OriginUrl,
    /// The log-in in the target's URL, which wget uses, too.
    pub(crate) login: Option<Login>,
}

/// A log-in that a redirect states for its target. It is never stored.
#[derive(Debug)]
pub(crate) struct Login {
    /// Scheme, host and port that it is for.
    origin: String,
    /// Value of the field `Authorization` (RFC 7617), which no formatter shows.
    pub(crate) authorization: HeaderValue,
}

impl Login {
    /// Returns true if the log-in is for the server of this URL.
    pub(crate) fn is_for(&self, url: &OriginUrl) -> bool {
        self.origin == url.origin()
    }
}

impl Redirect {
    /// Reads the target of a redirect from `url`.
    ///
    /// # Errors
    /// When it has no usable target, or when it leaves TLS where that is refused.
    pub(crate) fn of(url: &OriginUrl, headers: &HeaderMap, downgrade: Downgrade) -> Result<Self, OriginError> {
        let invalid = |detail: String| OriginError::new(JobReason::Redirects, detail);
        let location = headers.get(LOCATION).ok_or_else(|| invalid("a redirect without a Location".to_owned()))?;
        if location.len() > MAX_ORIGIN_URL {
            return Err(invalid(format!("a Location of more than {MAX_ORIGIN_URL} bytes")));
        }
        let target = url.url().join(&text(location.as_bytes()));
        let mut target = target.map_err(|_| invalid("a redirect without a usable Location".to_owned()))?;
        let authorization = take_authorization(&mut target);
        let target = OriginUrl::try_from(target).map_err(|error| invalid(error.to_string()))?;
        let leaves_tls = url.is_secure() && !target.is_secure();
        if leaves_tls && downgrade == Downgrade::Refused {
            return Err(OriginError::new(
                JobReason::NotSecure,
                "a redirect from https to http; with the SHA-256 of the file (--sha256) a client follows it",
            ));
        }
        let authorization = authorization.filter(|_| !leaves_tls);
        let login = authorization.map(|authorization| Login { origin: target.origin(), authorization });
        Ok(Self { url: target, login })
    }
}

/// Returns the text of a `Location`. Bytes that are not UTF-8 are encoded, as other programs send them.
fn text(location: &[u8]) -> String {
    match str::from_utf8(location) {
        Ok(text) => text.to_owned(),
        Err(_) => percent_encode(location, NOT_ASCII).to_string(),
    }
}

/// Removes the user name and the password from a URL and returns them as the field `Authorization`.
fn take_authorization(url: &mut Url) -> Option<HeaderValue> {
    let mut pair: Vec<u8> = percent_decode_str(url.username()).collect();
    pair.push(b':');
    pair.extend(percent_decode_str(url.password().unwrap_or_default()));
    let is_stated = pair != b":";
    // It fails only for URLs without a host, which `OriginUrl` refuses.
    let _ = url.set_username("").and_then(|()| url.set_password(None));
    let mut value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(pair))).ok()?;
    value.set_sensitive(true);
    is_stated.then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redirect(from: &str, location: &[u8], downgrade: Downgrade) -> Result<Redirect, OriginError> {
        let headers = HeaderMap::from_iter([(LOCATION, HeaderValue::from_bytes(location).unwrap())]);
        Redirect::of(&from.parse().unwrap(), &headers, downgrade)
    }

    #[test]
    fn a_target_is_read_as_other_programs_read_it() {
        for (location, target) in [
            (&b"../c"[..], "https://example.org/c"),
            (b"/caf\xe9.bin?n=\xe9", "https://example.org/caf%E9.bin?n=%E9"),
            ("/caf\u{e9}.bin".as_bytes(), "https://example.org/caf%C3%A9.bin"),
            (b"/a b#part", "https://example.org/a%20b"),
            (b"//other.org/c", "https://other.org/c"),
        ] {
            let found = redirect("https://example.org/a/b", location, Downgrade::Refused).unwrap();
            assert_eq!(found.url.url().as_str(), target, "{location:?}");
            assert!(found.login.is_none(), "{location:?}");
        }
        let long = format!("/{}", "x".repeat(MAX_ORIGIN_URL));
        for bad in [&b"javascript:alert(1)"[..], b"file:///etc/passwd", b"http://", long.as_bytes()] {
            let refused = redirect("http://example.org/a", bad, Downgrade::Followed).unwrap_err();
            assert_eq!(refused.reason, JobReason::Redirects, "{refused}");
        }
    }

    #[test]
    fn a_log_in_in_a_target_is_for_its_server_alone_and_is_never_shown() {
        let found = redirect("http://a.org/x", b"http://us%65r:p%40ss@b.org/y", Downgrade::Refused).unwrap();
        assert_eq!(found.url.url().as_str(), "http://b.org/y");
        let shown = format!("{found:?}");
        let login = found.login.unwrap();
        let expected = format!("Basic {}", STANDARD.encode("user:p@ss"));
        assert_eq!(login.authorization.to_str().unwrap(), expected);
        assert!(!shown.contains("p@ss") && !shown.contains("p%40ss") && !shown.contains(&expected), "{shown}");
        for (url, is_for) in [("http://b.org/z", true), ("http://b.org:81/y", false), ("https://b.org/y", false)] {
            assert_eq!(login.is_for(&url.parse().unwrap()), is_for, "{url}");
        }
        assert!(redirect("http://a.org/x", b"http://u@b.org/", Downgrade::Refused).unwrap().login.is_some());
    }

    #[test]
    fn a_redirect_leaves_tls_only_for_content_that_a_digest_verifies() {
        let refused = redirect("https://a.org/x", b"http://b.org/y", Downgrade::Refused).unwrap_err();
        assert_eq!(refused.reason, JobReason::NotSecure);
        assert!(refused.detail.contains("--sha256"), "{refused}");
        let found = redirect("https://a.org/x", b"http://u:p@b.org/y", Downgrade::Followed).unwrap();
        assert_eq!(found.url.url().as_str(), "http://b.org/y");
        assert!(found.login.is_none(), "no log-in leaves TLS");
    }
}
