//! The credentials of a user for the server of a URL: header fields, a netrc file, a client certificate.
//!
//! Invariant: they go to scheme, host and port of the URL that the user gave, and to no other; after a redirect elsewhere they are
//! not sent again, wherever further redirects lead. No formatter shows them.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use reqwest::header::{AUTHORIZATION, COOKIE, HeaderMap, HeaderName, HeaderValue};
use secrecy::ExposeSecret as _;
use wire::OriginUrl;

use crate::{netrc::Netrc, tls::ClientIdentity};

/// Fields that every request sets itself.
const OWN_FIELDS: [&str; 7] =
    ["range", "if-range", "accept-encoding", "host", "connection", "content-length", "transfer-encoding"];
/// Fields that hold no secret: they go to every server.
const OPEN_FIELDS: [&str; 3] = ["user-agent", "accept", "accept-language"];

/// Credentials of the user for the server of a URL.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    headers: HeaderMap,
    netrc: Option<Netrc>,
    pub(crate) identity: Option<ClientIdentity>,
}

/// A text that cannot be used as a credential. It names no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCredential {
    /// The text is no header field.
    #[error("a header field looks like 'Name: value'")]
    Field,
    /// The field is one of DDM's own.
    #[error("the header field {0} is set by DDM itself")]
    OwnField(HeaderName),
    /// The file holds no certificate with its key.
    #[error("it must hold a certificate and its private key, both in PEM form")]
    Identity,
}

impl Credentials {
    /// Adds a header field, `Name: value`.
    ///
    /// # Errors
    /// [`InvalidCredential`].
    pub fn add_header(&mut self, line: &str) -> Result<(), InvalidCredential> {
        let (name, value) = line.split_once(':').ok_or(InvalidCredential::Field)?;
        let name: HeaderName = name.trim().parse().map_err(|_| InvalidCredential::Field)?;
        if OWN_FIELDS.contains(&name.as_str()) {
            return Err(InvalidCredential::OwnField(name));
        }
        let mut value = HeaderValue::from_bytes(value.trim().as_bytes()).map_err(|_| InvalidCredential::Field)?;
        value.set_sensitive(true);
        self.headers.append(name, value);
        Ok(())
    }

    /// Sets the log-ins of hosts.
    pub fn set_netrc(&mut self, netrc: Netrc) {
        self.netrc = Some(netrc);
    }

    /// Sets the client certificate: PEM with the certificate and its private key.
    ///
    /// # Errors
    /// [`InvalidCredential::Identity`].
    pub fn set_identity(&mut self, pem: &[u8]) -> Result<(), InvalidCredential> {
        self.identity = Some(ClientIdentity::from_pem(pem).ok_or(InvalidCredential::Identity)?);
        Ok(())
    }

    /// Adds the fields for a request to `url`; `is_first` is set until a redirect has led to another server.
    pub(crate) fn apply(&self, url: &OriginUrl, is_first: bool, headers: &mut HeaderMap) {
        let allowed = self.headers.iter().filter(|(name, _)| is_first || OPEN_FIELDS.contains(&name.as_str()));
        let allowed: Vec<_> = allowed.map(|(name, value)| (name.clone(), value.clone())).collect();
        for (name, _) in &allowed {
            headers.remove(name);
        }
        for (name, value) in allowed {
            headers.append(name, value);
        }
        if is_first && !headers.contains_key(AUTHORIZATION) {
            headers.extend(self.basic(url).map(|value| (AUTHORIZATION, value)));
        }
    }

    /// Returns the cookies that the user gave.
    pub(crate) fn cookie(&self, is_first: bool) -> Option<&str> {
        self.headers.get(COOKIE).filter(|_| is_first)?.to_str().ok()
    }

    /// Returns the field `Authorization` for a log-in of the netrc file (RFC 7617).
    fn basic(&self, url: &OriginUrl) -> Option<HeaderValue> {
        let login = self.netrc.as_ref()?.login(url.url().host_str()?)?;
        let pair = STANDARD.encode(format!("{}:{}", login.user, login.password.expose_secret()));
        let mut value = HeaderValue::try_from(format!("Basic {pair}")).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(lines: &[&str], netrc: &str) -> Credentials {
        let mut credentials = Credentials::default();
        lines.iter().for_each(|line| credentials.add_header(line).unwrap());
        credentials.set_netrc(Netrc::parse(netrc));
        credentials
    }

    fn sent(credentials: &Credentials, is_first: bool) -> Vec<String> {
        let mut headers = HeaderMap::new();
        credentials.apply(&"https://a.org/x".parse().unwrap(), is_first, &mut headers);
        let mut all: Vec<String> =
            headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        all.sort();
        all
    }

    #[test]
    fn credentials_go_to_the_first_server_alone() {
        let all = credentials(&["X-Key: k", "User-Agent: me", "Cookie: c=1"], "machine a.org login u password p");
        assert_eq!(sent(&all, true), ["authorization: Basic dTpw", "cookie: c=1", "user-agent: me", "x-key: k"]);
        assert_eq!(sent(&all, false), ["user-agent: me"]);
        assert_eq!((all.cookie(true), all.cookie(false)), (Some("c=1"), None));
        let own = credentials(&["Authorization: Bearer t"], "machine a.org login u password p");
        assert_eq!(sent(&own, true), ["authorization: Bearer t"]);
        assert!(sent(&credentials(&[], "machine b.org login u password p"), true).is_empty());
    }

    #[test]
    fn fields_that_spoil_a_request_are_refused_and_no_secret_is_shown() {
        let mut credentials = Credentials::default();
        for bad in ["Range: bytes=0-1", "if-range: x", "Host: b.org", "Accept-Encoding: gzip"] {
            assert!(matches!(credentials.add_header(bad), Err(InvalidCredential::OwnField(_))), "{bad}");
        }
        for bad in ["X-Key", "X Key: 1", ": 1", "X-Key: a\nX-Other: b", ""] {
            assert_eq!(credentials.add_header(bad), Err(InvalidCredential::Field), "{bad:?}");
        }
        assert_eq!(credentials.set_identity(b"nothing"), Err(InvalidCredential::Identity));
        credentials.add_header("X-Key: hunter2").unwrap();
        assert!(!format!("{credentials:?}").contains("hunter2"));
    }
}
