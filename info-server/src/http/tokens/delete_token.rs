use std::sync::Arc;

use axum::{extract::State as Shared, http::StatusCode};
use http_front::extract::Path;
use jiff::Timestamp;
use wire::{
    TokenId,
    account::Role,
    event::{EventPayload, Stream},
};

use crate::{
    accounts::{
        audit::{AuditEntry, AuditKind},
        store::audit,
    },
    error::{Error, Result},
    events::outbox,
    http::auth::SignedInUser,
    state::State,
    tokens,
};

/// `DELETE /v1/tokens/{token_id}`: every file server receives the revocation. Another account's token is answered like an unknown one.
#[utoipa::path(
    delete,
    path = "/v1/tokens/{token_id}",
    tag = "Files",
    params(("token_id" = TokenId, Path, description = "The token's public name")), security(("session" = [])),
    responses((status = 204, description = "Revoked"))
)]
pub(crate) async fn delete_token(
    Shared(state): Shared<Arc<State>>,
    reader: SignedInUser,
    Path(id): Path<TokenId>,
) -> Result<StatusCode> {
    let now = Timestamp::now();
    let token = state.db.token(id, now).await?.ok_or(Error::NotFound)?;
    if token.user_id != reader.user.id && reader.user.role < Role::Admin {
        return Err(Error::NotFound);
    }
    if !token.revoked {
        let mut write = state.db.write().await?;
        tokens::store::revoke(&mut write, token.revocation.token_hash).await?;
        let fact = EventPayload::TokenRevoked { tokens: vec![token.revocation] };
        let seq = outbox::append(&mut write, &Stream::All, &fact, now).await?;
        let entry = AuditEntry::new(AuditKind::Revocation).by(reader.user.id, reader.address).about(id);
        audit::record(&mut write, &[entry], now).await?;
        write.commit().await?;
        state.log.announce(seq);
        state.log.announce_broadcast(seq);
        tracing::info!(token = %id, "Token {id} revoked");
    }
    Ok(StatusCode::NO_CONTENT)
}
