//! Tokens and the permissions they grant.
//!
//! A token is 256 random bits behind a prefix that gives its kind, followed by a checksum, so that a mistyped or invented token
//! is refused without a look-up. Servers store and exchange only the SHA-256 of its text.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use rand::Rng as _;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use crate::{Digest, FileId, ServerId, TokenId, Zone};

const SECRET_LEN: usize = 32;
const CHECKSUM_LEN: usize = 4;

/// Kind of a token, visible in its prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TokenKind {
    /// Session of a user at the info-server, `ddms_…`.
    Session,
    /// Permission to read one file from file servers, `ddmd_…`.
    Download,
    /// Permission to write one file to file servers, `ddmu_…`.
    Upload,
    /// Secret of a file server, `ddmv_…`.
    Server,
}

impl TokenKind {
    const ALL: [Self; 4] = [Self::Session, Self::Download, Self::Upload, Self::Server];

    const fn prefix(self) -> &'static str {
        match self {
            Self::Session => "ddms_",
            Self::Download => "ddmd_",
            Self::Upload => "ddmu_",
            Self::Server => "ddmv_",
        }
    }
}

/// Bearer token. No formatter shows its text; [`Token::expose`] returns it.
#[derive(Clone)]
pub struct Token {
    kind: TokenKind,
    text: SecretString,
}

/// Error of a text that is not a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a DDM token")]
pub struct TokenError;

impl Token {
    /// Generates a token of 256 random bits.
    pub fn generate(kind: TokenKind) -> Self {
        let mut raw = [0; SECRET_LEN];
        rand::rng().fill_bytes(&mut raw);
        let mut body = raw.to_vec();
        body.extend(checksum(kind, &raw));
        let text = format!("{}{}", kind.prefix(), URL_SAFE_NO_PAD.encode(&body));
        Self { kind, text: text.into() }
    }

    /// Returns the kind of the token.
    pub const fn kind(&self) -> TokenKind {
        self.kind
    }

    /// Returns the text, for a header or a file of mode 0600.
    pub fn expose(&self) -> &str {
        self.text.expose_secret()
    }

    /// Returns the SHA-256 of the text, which is what databases and messages hold.
    pub fn hash(&self) -> Digest {
        Digest::of(self.expose().as_bytes())
    }
}

fn checksum(kind: TokenKind, secret: &[u8]) -> [u8; CHECKSUM_LEN] {
    let mut hasher = crate::Hasher::new();
    hasher.update(kind.prefix().as_bytes());
    hasher.update(secret);
    let mut sum = [0; CHECKSUM_LEN];
    sum.iter_mut().zip(hasher.finish().as_bytes()).for_each(|(to, from)| *to = *from);
    sum
}

impl FromStr for Token {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let (kind, body) = TokenKind::ALL
            .into_iter()
            .find_map(|kind| Some((kind, text.strip_prefix(kind.prefix())?)))
            .ok_or(TokenError)?;
        let raw = URL_SAFE_NO_PAD.decode(body).map_err(|_| TokenError)?;
        let (secret, sum) = raw.split_at_checked(SECRET_LEN).ok_or(TokenError)?;
        if sum == checksum(kind, secret) { Ok(Self { kind, text: text.into() }) } else { Err(TokenError) }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[hidden]", self.kind.prefix())
    }
}

/// Serialises the text: it is sent once, in the answer to the request that created the token.
impl Serialize for Token {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.expose())
    }
}

impl<'de> Deserialize<'de> for Token {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Record of a token with which a file server authorises requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Grant {
    /// SHA-256 of the token's text.
    pub token_hash: Digest,
    /// Identifier of the token (UUIDv7), which may be logged.
    pub token_id: TokenId,
    /// The only file that the token is valid for.
    pub file: FileId,
    /// Zones in which the token is valid; all zones when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zones: Option<Vec<Zone>>,
    /// Time from which on new requests are refused.
    pub expires_at: Timestamp,
    /// Operation that the token permits.
    #[serde(flatten)]
    pub purpose: GrantPurpose,
}

/// Operation that a grant permits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "purpose", rename_all = "lowercase")]
pub enum GrantPurpose {
    /// Reading the file.
    Download,
    /// Writing the file's chunks.
    Upload {
        /// Size of the file in bytes.
        size: u64,
        /// Size in bytes of every chunk but the last.
        chunk_size: u64,
        /// File servers that may accept the upload.
        targets: Vec<ServerId>,
    },
}

/// Revoked token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Revocation {
    /// SHA-256 of the token's text.
    pub token_hash: Digest,
    /// Identifier of the token (UUIDv7), which may be logged.
    pub token_id: TokenId,
    /// Time at which the token would have expired. The revocation need not be stored longer.
    pub expires_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_back_as_its_own_kind_and_hash() {
        for kind in TokenKind::ALL {
            let token = Token::generate(kind);
            let read: Token = token.expose().parse().unwrap();
            assert_eq!((read.kind(), read.hash()), (kind, token.hash()));
            assert_eq!(token.expose().len(), 5 + 48);
        }
    }

    #[test]
    fn no_formatter_shows_a_token() {
        let token = Token::generate(TokenKind::Download);
        let shown = format!("{token:?}");
        assert_eq!(shown, "ddmd_[hidden]");
    }

    #[test]
    fn one_changed_character_or_another_kind_is_refused_without_a_look_up() {
        let token = Token::generate(TokenKind::Download);
        let text = token.expose();
        for at in 5..text.len() {
            let mut bytes = text.as_bytes().to_vec();
            let old = bytes[at];
            bytes[at] = if old == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            assert!(changed.parse::<Token>().is_err(), "position {at}");
        }
        assert!(text.replace("ddmd_", "ddms_").parse::<Token>().is_err());
        for bad in ["", "ddmd_", "Bearer x", "ddmd_AAAA", &format!("{text}A"), &format!("{text}=")] {
            assert!(bad.parse::<Token>().is_err(), "{bad}");
        }
    }
}
