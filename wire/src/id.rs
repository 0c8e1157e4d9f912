//! Identifiers. Each is safe as a path segment, a routing-key word and a column value, because no other text can be parsed as one.

mod prefix;

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use uuid::Uuid;

pub use self::prefix::{IdPrefix, IdPrefixError};

/// Short name that matches `[a-z0-9-]{1,63}`, used for zones and server ids.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Label(String);

/// Location label of a file server. Clients prefer servers of their own zone.
pub type Zone = Label;

/// Identifier that a file server generated at its first start.
pub type ServerId = Label;

/// Error of a text that is not a label.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a name: use 1 to 63 of the characters a-z, 0-9 and '-'")]
pub struct LabelError(String);

impl Label {
    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Label {
    type Err = LabelError;

    fn from_str(text: &str) -> Result<Self, LabelError> {
        let fits = (1..=63).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if fits { Ok(Self(text.to_owned())) } else { Err(LabelError(text.chars().take(80).collect())) }
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Label {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Label {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// Error of a text that is not a UUID in canonical lower case.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an id is a UUID such as 01890a5d-ac96-774b-bcce-b302099a8057")]
pub struct IdError;

/// Parses the canonical form only, so that an id has one spelling in paths, file names and logs.
fn parse_canonical(text: &str) -> Result<Uuid, IdError> {
    let id = Uuid::try_parse(text).map_err(|_| IdError)?;
    let mut buffer = Uuid::encode_buffer();
    if id.hyphenated().encode_lower(&mut buffer) == text { Ok(id) } else { Err(IdError) }
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Uuid);

        impl $name {
            /// Creates a new identifier (RFC 9562 version 7, which sorts by time of creation).
            #[expect(clippy::new_without_default, reason = "an id that springs from a default would hide its randomness")]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }

            /// Returns the 16 bytes.
            pub const fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                parse_canonical(text).map(Self)
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = IdError;

            fn try_from(raw: &[u8]) -> Result<Self, IdError> {
                Uuid::from_slice(raw).map(Self).map_err(|_| IdError)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut buffer = Uuid::encode_buffer();
                f.pad(self.0.hyphenated().encode_lower(&mut buffer))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(de::Error::custom)
            }
        }
    };
}

uuid_id! {
    /// Identifier of a file, whose content never changes.
    FileId
}
uuid_id! {
    /// Identifier of a job, the collaborative download of an origin URL.
    JobId
}
uuid_id! {
    /// Identifier that a process chose for itself as a requester of jobs. It is unique within the process's account only.
    RequesterId
}
uuid_id! {
    /// Identifier of a token, which may be logged.
    TokenId
}
uuid_id! {
    /// Identifier of a session, which may be logged.
    SessionId
}
uuid_id! {
    /// Identifier of one start of a file server, which tells two processes with the same server id apart.
    InstanceId
}
uuid_id! {
    /// Identifier of one life of the info-server's database. A restored database starts a new epoch.
    Epoch
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_safe_path_segments() {
        for good in ["a", "eu-west-1", "0", &"x".repeat(63)] {
            assert!(good.parse::<Label>().is_ok(), "{good}");
        }
        for bad in ["", "..", ".", "a/b", "A", "a_b", "é", "a b", "a\0", &"x".repeat(64)] {
            assert!(bad.parse::<Label>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_id_has_one_spelling() {
        let id = FileId::new();
        assert_eq!(id.to_string().parse(), Ok(id));
        let upper = id.to_string().to_uppercase();
        let braced = format!("{{{id}}}");
        let simple = id.to_string().replace('-', "");
        for bad in ["", "../x", upper.as_str(), braced.as_str(), simple.as_str()] {
            // A UUID may happen to hold no letters, and then its upper case is itself.
            if bad != id.to_string() {
                assert_eq!(bad.parse::<FileId>(), Err(IdError), "{bad}");
            }
        }
    }
}
