//! Log-in and sessions.

use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{SessionId, Zone, token::Token};

/// Body of `POST /v1/sessions`.
#[derive(Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LoginRequest {
    /// E-mail address of the account.
    pub email: String,
    /// Password of the account.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = Password))]
    pub password: secrecy::SecretString,
    /// Zone of the user. It applies to every request of the session that names no zone.
    #[serde(default)]
    pub zone: Option<Zone>,
}

/// Answer of `POST /v1/sessions`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct IssuedSession {
    /// Session token, sent as `Authorization: Bearer` with every further request.
    pub token: Token,
    /// Time at which the session ends.
    pub expires_at: Timestamp,
}

/// Open session of the caller, in the answer of `GET /v1/sessions`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SessionInfo {
    /// Identifier of the session (UUIDv7), for `DELETE /v1/sessions/{id}`.
    pub id: SessionId,
    /// Time of the log-in.
    pub created_at: Timestamp,
    /// Time at which the session ends.
    pub expires_at: Timestamp,
    /// Client address of the log-in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub address: Option<IpAddr>,
    /// Set for the session that sent this request.
    pub current: bool,
}

/// Answer of `GET /v1/sessions`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SessionList {
    /// Open sessions, newest first.
    pub sessions: Vec<SessionInfo>,
}
