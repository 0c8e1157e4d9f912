use std::sync::Arc;

use axum::extract::State as Shared;
use jiff::Timestamp;
use lifecycle::http::Json;
use wire::{server::Introspection, token::Grant};

use crate::{
    app::State,
    caller::FileServer,
    error::{Error, Result},
};

/// `POST /v1/tokens/introspect`: the grant behind a token that a file server has not heard of yet.
pub(super) async fn introspect_token(
    Shared(state): Shared<Arc<State>>,
    _: FileServer,
    Json(asked): Json<Introspection>,
) -> Result<axum::Json<Grant>> {
    state.store.grant(asked.token_hash, Timestamp::now()).await?.map(axum::Json).ok_or(Error::NotFound)
}
