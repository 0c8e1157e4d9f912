//! URLs of files on the web that DDM fetches.

use std::{fmt, str::FromStr};

use percent_encoding::{AsciiSet, percent_decode_str, percent_encode};
use serde::{Deserialize, Deserializer, Serialize, de};
use url::{Host, Url};

use crate::name::FileName;

/// Longest origin URL in bytes.
pub const MAX_ORIGIN_URL: usize = 8 << 10;
/// No ASCII character: [`percent_encode`] encodes all other bytes in any case.
const NOT_ASCII: &AsciiSet = &AsciiSet::EMPTY;

/// `http` or `https` URL with a host, without user name, password or fragment.
///
/// Neither of its formatters shows the query, which may hold a secret. [`OriginUrl::url`] returns the whole URL, for
/// requests and messages.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OriginUrl(Url);

/// Error of a text that is not an origin URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OriginUrlError {
    /// The text has more than [`MAX_ORIGIN_URL`] bytes.
    #[error("a URL has at most {MAX_ORIGIN_URL} bytes")]
    TooLong,
    /// The text is not an absolute URL with a host.
    #[error("this is not a URL such as https://example.org/image.iso")]
    Malformed,
    /// The scheme is neither `http` nor `https`.
    #[error("only http and https URLs are fetched")]
    Scheme,
    /// The URL has a user name or a password.
    #[error("a URL with a user name or a password is refused: it would be stored and shown; put them into ~/.netrc")]
    Credentials,
}

impl OriginUrl {
    /// Returns the URL with its query, for requests and for the user who gave it.
    pub const fn url(&self) -> &Url {
        &self.0
    }

    /// Returns scheme, host and port, by which connections are counted.
    pub fn origin(&self) -> String {
        self.0.origin().ascii_serialization()
    }

    /// Returns the host.
    pub fn host(&self) -> Host<&str> {
        // `FromStr` lets none without a host through; a special scheme always has one.
        self.0.host().unwrap_or(Host::Domain(""))
    }

    /// Returns true if the connection is encrypted.
    pub fn is_secure(&self) -> bool {
        self.0.scheme() == "https"
    }

    /// Returns a safe name for the file: the last segment of the path, decoded, or `download` if no character of it can
    /// be used. Bytes beyond ASCII that are not UTF-8 stay encoded, so that two names stay different.
    pub fn file_name(&self) -> FileName {
        let last = self.0.path_segments().and_then(|segments| segments.rev().find(|part| !part.is_empty()));
        let bytes = percent_decode_str(last.unwrap_or_default()).collect();
        match String::from_utf8(bytes) {
            Ok(text) => FileName::tamed(&text),
            Err(error) => FileName::tamed(&percent_encode(error.as_bytes(), NOT_ASCII).to_string()),
        }
    }

    /// Returns the URL without its query, which may hold the signature of a link that expires.
    pub fn without_query(&self) -> Url {
        let mut url = self.0.clone();
        url.set_query(None);
        url
    }
}

impl TryFrom<Url> for OriginUrl {
    type Error = OriginUrlError;

    fn try_from(mut url: Url) -> Result<Self, OriginUrlError> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(OriginUrlError::Scheme);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(OriginUrlError::Credentials);
        }
        if url.host_str().is_none_or(str::is_empty) {
            return Err(OriginUrlError::Malformed);
        }
        url.set_fragment(None);
        if url.as_str().len() > MAX_ORIGIN_URL {
            return Err(OriginUrlError::TooLong);
        }
        Ok(Self(url))
    }
}

impl FromStr for OriginUrl {
    type Err = OriginUrlError;

    fn from_str(text: &str) -> Result<Self, OriginUrlError> {
        if text.len() > MAX_ORIGIN_URL {
            return Err(OriginUrlError::TooLong);
        }
        Self::try_from(Url::parse(text).map_err(|_| OriginUrlError::Malformed)?)
    }
}

impl fmt::Display for OriginUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (shown, query) = self.0.as_str().split_once('?').map_or((self.0.as_str(), ""), |(shown, _)| (shown, "?…"));
        write!(f, "{shown}{query}")
    }
}

impl fmt::Debug for OriginUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for OriginUrl {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.as_str())
    }
}

impl<'de> Deserialize<'de> for OriginUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> OriginUrl {
        text.parse().unwrap()
    }

    #[test]
    fn only_plain_web_addresses_are_accepted() {
        for (text, refused) in [
            ("ftp://example.org/x", OriginUrlError::Scheme),
            ("file:///etc/passwd", OriginUrlError::Scheme),
            ("https://me:secret@example.org/x", OriginUrlError::Credentials),
            ("https://me@example.org/x", OriginUrlError::Credentials),
            ("example.org/x", OriginUrlError::Malformed),
            ("https://", OriginUrlError::Malformed),
            ("", OriginUrlError::Malformed),
            (&format!("https://example.org/{}", "x".repeat(MAX_ORIGIN_URL)), OriginUrlError::TooLong),
        ] {
            assert_eq!(text.parse::<OriginUrl>().unwrap_err(), refused, "{text}");
        }
        assert_eq!(url("https://example.org/a#part").url().as_str(), "https://example.org/a");
        assert_eq!(url("https://EXAMPLE.org:443/a").origin(), "https://example.org");
    }

    #[test]
    fn no_formatter_shows_a_query() {
        let secret = url("https://example.org/a%20b?token=secret");
        assert_eq!(secret.to_string(), "https://example.org/a%20b?…");
        assert!(!format!("{secret:?}").contains("secret"));
        assert_eq!(serde_json::to_value(&secret).unwrap(), "https://example.org/a%20b?token=secret");
    }

    #[test]
    fn the_name_is_the_last_segment_made_safe() {
        for (text, name) in [
            ("https://example.org/d/image.iso?x=1", "image.iso"),
            ("https://example.org/a%20b.bin", "a b.bin"),
            ("https://example.org/..%2f..%2fetc%2fpasswd", "passwd"),
            ("https://example.org/", "download"),
            ("https://example.org/%2e%2e", "download"),
            ("https://example.org/-rf", "rf"),
            ("https://example.org/a%1b%5b2J.txt", "a[2J.txt"),
            ("https://example.org/%ff", "%FF"),
            // Two names in GBK, and one in ISO-8859-1.
            ("https://example.org/%C4%E3%BA%C3.zip", "%C4%E3%BA%C3.zip"),
            ("https://example.org/%b2%e2%ca%d4.zip", "%B2%E2%CA%D4.zip"),
            ("https://example.org/caf%e9%20au%20lait.txt", "caf%E9 au lait.txt"),
        ] {
            let found = url(text).file_name();
            assert_eq!(found.as_str(), name, "{text}");
        }
        let long = url(&format!("https://example.org/{}.tar.gz", "%E6%BC%A2".repeat(90))).file_name();
        assert!(long.as_str().starts_with('漢') && long.as_str().ends_with("漢.tar.gz"), "{long}");
        assert!(url(&format!("https://example.org/{}", "é".repeat(300))).file_name().as_str().len() <= 240);
    }
}
