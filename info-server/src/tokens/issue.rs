//! Download tokens: the right to a file's chunks, for users and for the servers that are to hold it.

use std::{net::IpAddr, time::Duration};

use jiff::Timestamp;
use wire::{
    Digest, FileId, TokenId, Zone,
    catalogue::IssuedToken,
    token::{Grant, GrantPurpose, Token, TokenKind},
};

use crate::{
    error::Result,
    tokens::{group_commit::GroupCommit, store::NewToken},
};

/// Account id of tokens that no user asked for.
const NO_ACCOUNT: i64 = 0;

/// The party that a token is issued to.
#[derive(Debug, Clone)]
pub(crate) enum TokenSubject {
    /// A user; the token ends with the account.
    User {
        /// Row id of the account.
        id: i64,
        /// The session that asks.
        session: Digest,
        /// The address that it asks from.
        address: Option<IpAddr>,
    },
    /// A file server: no user asked for the token.
    FileServer,
}

/// A download token that is asked for.
#[derive(Debug, Clone)]
pub(crate) struct DownloadTokenRequest {
    pub(crate) file: FileId,
    /// The zones that hold the file or are to hold it.
    pub(crate) zones: Vec<Zone>,
    /// The zones that the token is good for; none for all.
    pub(crate) only: Option<Vec<Zone>>,
    pub(crate) lifetime: Duration,
}

/// Makes a download token and commits it with the events for its zones.
pub(crate) async fn issue(
    tokens: &GroupCommit,
    subject: &TokenSubject,
    request: DownloadTokenRequest,
) -> Result<IssuedToken> {
    let DownloadTokenRequest { file, mut zones, only, lifetime } = request;
    if let Some(only) = &only {
        zones.retain(|zone| only.contains(zone));
    }
    let token = Token::generate(TokenKind::Download);
    let grant = Grant {
        token_hash: token.hash(),
        token_id: TokenId::new(),
        file,
        zones: only,
        expires_at: Timestamp::now().checked_add(lifetime)?,
        purpose: GrantPurpose::Download,
    };
    let (token_id, expires_at) = (grant.token_id, grant.expires_at);
    let (user_id, session, address) = match *subject {
        TokenSubject::User { id, session, address } => (id, Some(session), address),
        TokenSubject::FileServer => (NO_ACCOUNT, None, None),
    };
    tokens.commit(NewToken { grant, user_id, session, address }, zones).await?;
    Ok(IssuedToken { token, token_id, expires_at, lifetime_s: Some(lifetime.as_secs()) })
}
