//! Authorization, which comes before everything else about a request.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use chunk_store::VolumeState;
use http::HeaderMap;
use http_front::extract::bearer;
use wire::{
    Digest, FileId,
    token::{Grant, Token, TokenKind},
};

use crate::{
    error::Error,
    state::AppState,
    tokens::{
        permission::{AccessRequest, RequiredAccess, allows},
        token_cache::{TokenLookup, Undecidable},
    },
};

/// Access that a token grants to a request.
#[derive(Debug)]
pub(super) struct GrantedAccess {
    pub(super) file: FileId,
    pub(super) grant: Arc<Grant>,
}

/// Token of a request, not yet checked.
pub(super) struct PresentedToken {
    kind: TokenKind,
    hash: Digest,
}

impl PresentedToken {
    /// Reads the header. A malformed token is refused without a look-up.
    pub(super) fn read(state: &AppState, headers: &HeaderMap) -> Result<Self, Error> {
        let text = bearer(headers).ok_or(Error::NoToken)?;
        let token: Token = text.parse().map_err(|_| refused(state))?;
        Ok(Self { kind: token.kind(), hash: token.hash() })
    }

    /// Returns the token's hash.
    pub(super) const fn hash(&self) -> Digest {
        self.hash
    }

    /// Checks the token for `file`, the text in the path. An id that cannot be parsed is another file than the token's own.
    pub(super) async fn authorize(
        self,
        state: &AppState,
        file: &str,
        access: RequiredAccess,
    ) -> Result<GrantedAccess, Error> {
        let found = state.tokens.find(self.kind, self.hash).await.map_err(|reason| match reason {
            Undecidable::InfoServer => Error::Undecidable,
            Undecidable::Database => Error::DatabaseFailed,
        })?;
        let TokenLookup::Granted(grant) = found else { return Err(refused(state)) };
        let file = file.parse::<FileId>().map_err(|_| refused(state))?;
        if is_allowed(state, &grant, file, access) { Ok(GrantedAccess { file, grant }) } else { Err(refused(state)) }
    }
}

/// Returns true if `grant` allows this access to `file`, here and now.
pub(super) fn is_allowed(state: &AppState, grant: &Grant, file: FileId, access: RequiredAccess) -> bool {
    let (server, zone) = (&state.identity.id, &state.zone);
    allows(grant, AccessRequest { file, access, server, zone, now: state.clock.now() })
}

/// Refuses requests about files while this server is not fit to answer them.
pub(super) async fn refuse_while_unfit(
    State(state): State<Arc<AppState>>,
    request: Request,
    next: Next,
) -> Result<Response, Error> {
    if request.uri().path().starts_with("/v1/") {
        check_fitness(&state)?;
    }
    Ok(next.run(request).await)
}

/// Checks that no other process has this server's identity, because this one then receives no revocations, and that the data
/// folder is in its place.
pub(super) fn check_fitness(state: &AppState) -> Result<(), Error> {
    if *state.identity_conflict.borrow() {
        Err(Error::IdentityConflict)
    } else if state.blobs.volume().state() == VolumeState::FolderReplaced {
        Err(Error::FolderReplaced)
    } else {
        Ok(())
    }
}

/// Counts a refusal.
fn refused(state: &AppState) -> Error {
    state.metrics.refused.inc();
    Error::Forbidden
}
