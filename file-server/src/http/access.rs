//! Authorization, which comes before everything else about a request.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use chunk_store::VolumeState;
use http::request::Parts;
use http_front::extract::bearer;
use wire::{
    Digest, FileId,
    token::{Grant, Token},
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
    token: Token,
    hash: Digest,
}

impl PresentedToken {
    /// Reads the header. A malformed token is refused without a look-up.
    pub(super) fn read(state: &AppState, parts: &Parts) -> Result<Self, Error> {
        let text = bearer(parts).ok_or(Error::NoToken)?;
        let token: Token = text.parse().map_err(|_| refused(state))?;
        let hash = token.hash();
        Ok(Self { token, hash })
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
        let found = state.tokens.find(&self.token).await.map_err(|reason| match reason {
            Undecidable::InfoServer => Error::Undecidable,
            Undecidable::Database => Error::DatabaseFailed,
        })?;
        let TokenLookup::Granted(grant) = found else { return Err(refused(state)) };
        let file = file.parse::<FileId>().map_err(|_| refused(state))?;
        let (server, zone) = (&state.identity.id, &state.zone);
        if allows(&grant, AccessRequest { file, access, server, zone, now: state.clock.now() }) {
            Ok(GrantedAccess { file, grant })
        } else {
            Err(refused(state))
        }
    }
}

/// Refuses requests about files while another process has this server's identity, because this one then receives no
/// revocations, and while the data folder is gone.
pub(super) async fn refuse_while_unfit(
    State(state): State<Arc<AppState>>,
    request: Request,
    next: Next,
) -> Result<Response, Error> {
    let about_files = request.uri().path().starts_with("/v1/");
    if about_files && *state.identity_conflict.borrow() {
        Err(Error::IdentityConflict)
    } else if about_files && state.blobs.volume().state() == VolumeState::FolderReplaced {
        Err(Error::FolderReplaced)
    } else {
        Ok(next.run(request).await)
    }
}

/// Counts a refusal.
fn refused(state: &AppState) -> Error {
    state.metrics.refused.inc();
    Error::Forbidden
}
