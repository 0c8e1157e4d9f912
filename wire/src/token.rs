//! Tokens and what they grant.
//!
//! A token is 256 random bits behind a prefix that tells its kind, followed by a checksum: a mistyped or made-up token is
//! refused before anything is looked up. Only the SHA-256 of its text is stored or travels between servers.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use rand::Rng as _;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use crate::{Digest, FileId, ServerId, TokenId, Zone};

const SECRET_LEN: usize = 32;
const CHECKSUM_LEN: usize = 4;

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A person's login at the info-server, `ddms_…`.
    Session,
    /// Reading one file from file servers, `ddmd_…`.
    Download,
    /// Writing one file to file servers, `ddmu_…`.
    Upload,
    /// A file server's own secret, `ddmv_…`.
    Server,
}

impl Kind {
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

/// A bearer token. Its text is shown by no formatter; [`Token::expose`] hands it out.
#[derive(Clone)]
pub struct Token {
    kind: Kind,
    text: SecretString,
}

/// Why a text is not a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a DDM token")]
pub struct TokenError;

impl Token {
    /// A fresh token of 256 random bits.
    pub fn generate(kind: Kind) -> Self {
        let mut raw = [0; SECRET_LEN];
        rand::rng().fill_bytes(&mut raw);
        let mut body = raw.to_vec();
        body.extend(checksum(kind, &raw));
        let text = format!("{}{}", kind.prefix(), URL_SAFE_NO_PAD.encode(&body));
        Self { kind, text: text.into() }
    }

    /// What the token is for.
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// The text, for a header or a 0600 file.
    pub fn expose(&self) -> &str {
        self.text.expose_secret()
    }

    /// The SHA-256 of the text: what databases and messages hold.
    pub fn hash(&self) -> Digest {
        Digest::of(self.expose().as_bytes())
    }
}

fn checksum(kind: Kind, secret: &[u8]) -> [u8; CHECKSUM_LEN] {
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
        let (kind, body) =
            Kind::ALL.into_iter().find_map(|kind| Some((kind, text.strip_prefix(kind.prefix())?))).ok_or(TokenError)?;
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

/// Sent to its owner once, in an answer over the owner's connection.
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

/// What a file server must know to honour a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Grant {
    /// SHA-256 of the token's text.
    pub token_hash: Digest,
    /// The token's public name.
    pub token_id: TokenId,
    /// The one file it is for.
    pub file: FileId,
    /// Where it may be used; anywhere when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zones: Option<Vec<Zone>>,
    /// Requests that start at or after this time are refused.
    pub expires_at: Timestamp,
    /// What it allows.
    #[serde(flatten)]
    pub purpose: Purpose,
}

/// What a grant allows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "purpose", rename_all = "lowercase")]
pub enum Purpose {
    /// Reading the file.
    Download,
    /// Writing the file's chunks.
    Upload {
        /// Bytes in the file.
        size: u64,
        /// Bytes in every chunk but the last.
        chunk_size: u64,
        /// The only servers that may take it.
        targets: Vec<ServerId>,
    },
}

/// A token that must no longer be honoured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Revocation {
    /// SHA-256 of the token's text.
    pub token_hash: Digest,
    /// The token's public name.
    pub token_id: TokenId,
    /// When the token would have ended by itself: the revocation need not be remembered longer.
    pub expires_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_back_as_its_own_kind_and_hash() {
        for kind in Kind::ALL {
            let token = Token::generate(kind);
            let read: Token = token.expose().parse().unwrap();
            assert_eq!((read.kind(), read.hash()), (kind, token.hash()));
            assert_eq!(token.expose().len(), 5 + 48);
        }
    }

    #[test]
    fn no_formatter_shows_a_token() {
        let token = Token::generate(Kind::Download);
        let shown = format!("{token:?}");
        assert_eq!(shown, "ddmd_[hidden]");
    }

    #[test]
    fn one_changed_character_or_another_kind_is_refused_without_a_look_up() {
        let token = Token::generate(Kind::Download);
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
