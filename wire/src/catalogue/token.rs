//! Issued tokens.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{TokenId, Zone, token::Token};

/// New token.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct IssuedToken {
    /// Secret text of the token, sent only in this answer.
    pub token: Token,
    /// Identifier of the token (UUIDv7), which may be logged.
    pub token_id: TokenId,
    /// Time from which on new requests with the token are refused.
    pub expires_at: Timestamp,
    /// Seconds from this answer to that time, for a party whose clock may be wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifetime_s: Option<u64>,
}

/// Body of `POST /v1/files/{id}/tokens`. All members are optional.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct TokenRequest {
    /// Lifetime in seconds, up to the maximum that the info-server is configured for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 1))]
    pub lifetime_s: Option<u32>,
    /// Zones in which the token is valid; all zones when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(min_items = 1, max_items = 32))]
    pub zones: Option<Vec<Zone>>,
}
