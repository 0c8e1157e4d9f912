use std::sync::Arc;

use axum::{extract::State as Shared, http::StatusCode};
use jiff::Timestamp;
use lifecycle::http::Path;
use wire::{
    TokenId,
    event::{Fact, Stream},
};

use crate::{
    app::State,
    caller::Reader,
    error::{Error, Result},
    store::{
        accounts::Role,
        audit::{self, Deed, Kind},
        outbox, tokens,
    },
};

/// `DELETE /v1/tokens/{token_id}`: every file server is told. Nobody learns of tokens that are not theirs.
#[utoipa::path(
    delete,
    path = "/v1/tokens/{token_id}",
    tag = "Files",
    params(("token_id" = TokenId, Path, description = "The token's public name")), security(("session" = [])),
    responses((status = 204, description = "Revoked"))
)]
pub(super) async fn delete_token(
    Shared(state): Shared<Arc<State>>,
    reader: Reader,
    Path(id): Path<TokenId>,
) -> Result<StatusCode> {
    let now = Timestamp::now();
    let token = state.store.token(id, now).await?.ok_or(Error::NotFound)?;
    if token.user_id != reader.user.id && reader.user.role < Role::Admin {
        return Err(Error::NotFound);
    }
    if !token.revoked {
        let mut write = state.store.write().await?;
        tokens::revoke(&mut write, token.revocation.token_hash).await?;
        let fact = Fact::TokenRevoked { tokens: vec![token.revocation] };
        let seq = outbox::append(&mut write, &Stream::All, &fact, now).await?;
        let deed = Deed::new(Kind::Revocation).by(reader.user.id, reader.address).about(id);
        audit::record(&mut write, &[deed], now).await?;
        write.commit().await?;
        state.log.committed(seq);
        state.log.reaches(seq);
        tracing::info!(token = %id, "revoked");
    }
    Ok(StatusCode::NO_CONTENT)
}
