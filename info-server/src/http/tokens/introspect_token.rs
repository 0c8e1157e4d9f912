use std::sync::Arc;

use axum::extract::State as Shared;
use http_front::{extract::Json, openapi::NotFound};
use jiff::Timestamp;
use wire::{server::Introspection, token::Grant};

use crate::{
    error::{Error, Result},
    http::auth::FileServer,
    state::State,
};

/// `POST /v1/tokens/introspect`: the grant of a token that a file server has not received yet.
#[utoipa::path(
    post,
    path = "/v1/tokens/introspect",
    tag = "File servers",
    request_body = Introspection, security(("server" = [])),
    responses((status = 200, description = "The grant", body = Grant), NotFound)
)]
pub(crate) async fn introspect_token(
    Shared(state): Shared<Arc<State>>,
    _: FileServer,
    Json(asked): Json<Introspection>,
) -> Result<axum::Json<Grant>> {
    state.db.grant(asked.token_hash, Timestamp::now()).await?.map(axum::Json).ok_or(Error::NotFound)
}
