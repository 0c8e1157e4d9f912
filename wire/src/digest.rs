//! SHA-256 digests and their three spellings: hex in JSON, `sha-256=:…:` in headers (RFC 9530), raw bytes in databases.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest as _, Sha256};

/// Length of a digest in bytes.
pub const DIGEST_LEN: usize = 32;

/// SHA-256 digest: 32 bytes, lower-case hex in text.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; DIGEST_LEN]);

/// Error of a text or byte string that is not a digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a SHA-256 digest is 64 hexadecimal digits")]
pub struct DigestError;

impl Digest {
    /// Computes the digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Computes the root of a manifest: the SHA-256 of the concatenated chunk digests.
    pub fn root_of<'a>(chunks: impl IntoIterator<Item = &'a Digest>) -> Self {
        let mut hasher = Hasher::new();
        for chunk in chunks {
            hasher.update(&chunk.0);
        }
        hasher.finish()
    }

    /// Returns the 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; DIGEST_LEN] {
        &self.0
    }

    /// Returns the value of a `Content-Digest` or `Repr-Digest` header (RFC 9530 §2).
    pub fn to_field(&self) -> String {
        format!("sha-256=:{}:", STANDARD.encode(self.0))
    }

    /// Parses the `sha-256` member of a `Content-Digest` or `Repr-Digest` header (RFC 9530 §2) and skips other
    /// algorithms.
    ///
    /// # Errors
    /// When there is no well-formed `sha-256` member.
    pub fn from_field(field: &str) -> Result<Self, DigestError> {
        field
            .split(',')
            .filter_map(|member| member.trim().split_once('='))
            .find(|(key, _)| key.trim() == "sha-256")
            .and_then(|(_, value)| {
                let value = value.split(';').next()?.trim();
                let encoded = value.strip_prefix(':')?.strip_suffix(':')?;
                STANDARD.decode(encoded).ok()
            })
            .ok_or(DigestError)
            .and_then(|raw| Self::try_from(raw.as_slice()))
    }
}

impl From<[u8; DIGEST_LEN]> for Digest {
    fn from(raw: [u8; DIGEST_LEN]) -> Self {
        Self(raw)
    }
}

impl TryFrom<&[u8]> for Digest {
    type Error = DigestError;

    fn try_from(raw: &[u8]) -> Result<Self, DigestError> {
        raw.try_into().map(Self).map_err(|_| DigestError)
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let mut raw = [0; DIGEST_LEN];
        hex::decode_to_slice(text, &mut raw).map_err(|_| DigestError)?;
        Ok(Self(raw))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// Incremental SHA-256 over bytes that arrive in parts.
#[derive(Clone, Default)]
pub struct Hasher(Sha256);

impl Hasher {
    /// Creates a hasher over no bytes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Returns the digest of all bytes added.
    pub fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hasher")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_and_header_spellings_round_trip() {
        let digest = Digest::of(b"abc");
        assert_eq!(digest.to_string(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert_eq!(Digest::from_field(&digest.to_field()), Ok(digest));
        assert_eq!(Digest::from_field(&format!("md5=:AA==:, {}", digest.to_field())), Ok(digest));
    }

    #[test]
    fn malformed_digests_are_refused() {
        for bad in ["", "ab", "zz", &"a".repeat(63), &"a".repeat(65), &"é".repeat(32)] {
            assert_eq!(bad.parse::<Digest>(), Err(DigestError), "{bad}");
        }
        for bad in ["", "sha-256", "sha-256=", "sha-256=::", "sha-256=:AA==:", "sha-512=:AA==:", "sha-256=AA=="] {
            assert_eq!(Digest::from_field(bad), Err(DigestError), "{bad}");
        }
    }

    #[test]
    fn the_root_of_no_chunks_is_the_digest_of_nothing() {
        assert_eq!(Digest::root_of([]), Digest::of(b""));
    }
}
