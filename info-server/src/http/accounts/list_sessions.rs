use std::sync::Arc;

use axum::extract::State as Shared;
use jiff::Timestamp;
use wire::catalogue::SessionList;

use crate::{error::Result, http::auth::SignedInUser, state::State};

/// `GET /v1/sessions`: the caller's open sessions.
#[utoipa::path(
    get,
    path = "/v1/sessions",
    tag = "Accounts",
    security(("session" = [])),
    responses((status = 200, description = "The open sessions", body = SessionList))
)]
pub(crate) async fn list_sessions(
    Shared(state): Shared<Arc<State>>,
    caller: SignedInUser,
) -> Result<axum::Json<SessionList>> {
    let sessions = state.db.sessions(caller.user.id, caller.session, Timestamp::now()).await?;
    Ok(axum::Json(SessionList { sessions }))
}
