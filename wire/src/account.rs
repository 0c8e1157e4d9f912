//! Accounts and their rights.

use std::{fmt, str::FromStr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Rights of an account; each role includes the rights of those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Lists and downloads.
    Reader,
    /// Publishes, and changes and removes what it published.
    Publisher,
    /// Everything.
    Admin,
}

impl Role {
    /// All roles, in ascending order.
    pub const ALL: [Self; 3] = [Self::Reader, Self::Publisher, Self::Admin];

    /// Returns the word used in JSON, in the database and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reader => "reader",
            Self::Publisher => "publisher",
            Self::Admin => "admin",
        }
    }

    /// Returns the rights in a few words, for a list of the roles.
    pub const fn rights(self) -> &'static str {
        match self {
            Self::Reader => "Lists and downloads",
            Self::Publisher => "Publishes, and changes and removes what it published",
            Self::Admin => "Everything",
        }
    }
}

/// Error of a text that names no role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a role is reader, publisher or admin")]
pub struct UnknownRole;

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or(UnknownRole)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Account in the answer of `GET /v1/users`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Account {
    /// Number of the account; higher ones were made later.
    pub id: i64,
    /// Name of the account.
    pub email: String,
    /// Rights of the account.
    pub role: Role,
    /// Set if the account is shut.
    pub disabled: bool,
    /// Time of creation.
    pub created_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_has_one_word_everywhere_and_includes_those_before_it() {
        for role in Role::ALL {
            assert_eq!(serde_json::to_value(role).unwrap(), role.as_str());
            assert_eq!(role.as_str().parse(), Ok(role));
        }
        assert_eq!("root".parse::<Role>(), Err(UnknownRole));
        assert!(Role::ALL.is_sorted());
    }
}
