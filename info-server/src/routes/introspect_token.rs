use std::sync::Arc;

use axum::extract::State as Shared;
use jiff::Timestamp;
use lifecycle::{api::NotFound, http::Json};
use wire::{server::Introspection, token::Grant};

use crate::{
    app::State,
    caller::FileServer,
    error::{Error, Result},
};

/// `POST /v1/tokens/introspect`: the grant behind a token that a file server has not heard of yet.
#[utoipa::path(
    post,
    path = "/v1/tokens/introspect",
    tag = "File servers",
    request_body = Introspection, security(("server" = [])),
    responses((status = 200, description = "What it grants", body = Grant), NotFound)
)]
pub(super) async fn introspect_token(
    Shared(state): Shared<Arc<State>>,
    _: FileServer,
    Json(asked): Json<Introspection>,
) -> Result<axum::Json<Grant>> {
    state.store.grant(asked.token_hash, Timestamp::now()).await?.map(axum::Json).ok_or(Error::NotFound)
}
