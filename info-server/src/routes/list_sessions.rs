use std::sync::Arc;

use axum::extract::State as Shared;
use jiff::Timestamp;
use wire::catalog::SessionList;

use crate::{app::State, caller::Reader, error::Result};

/// `GET /v1/sessions`: the caller's own.
#[utoipa::path(
    get,
    path = "/v1/sessions",
    tag = "Accounts",
    security(("session" = [])),
    responses((status = 200, description = "Those that are open", body = SessionList))
)]
pub(super) async fn list_sessions(
    Shared(state): Shared<Arc<State>>,
    reader: Reader,
) -> Result<axum::Json<SessionList>> {
    let sessions = state.store.sessions(reader.user.id, reader.session, Timestamp::now()).await?;
    Ok(axum::Json(SessionList { sessions }))
}
