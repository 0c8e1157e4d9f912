use std::sync::Arc;

use axum::{extract::State as Shared, http::StatusCode};
use http_front::extract::Path;
use jiff::Timestamp;
use wire::{SessionId, account::Role};

use crate::{
    accounts::{
        self,
        audit::{AuditEntry, AuditKind},
        store::audit,
    },
    error::{Error, Result},
    http::auth::SignedInUser,
    state::State,
};

/// `DELETE /v1/sessions/current`: ends the session that asks.
#[utoipa::path(
    delete,
    path = "/v1/sessions/current",
    tag = "Accounts",
    security(("session" = [])),
    responses((status = 204, description = "The token is dead from now on"))
)]
pub(crate) async fn delete_session(Shared(state): Shared<Arc<State>>, caller: SignedInUser) -> Result<StatusCode> {
    let mut write = state.db.write().await?;
    accounts::store::end_session(&mut write, caller.session).await?;
    audit::record(
        &mut write,
        &[AuditEntry::new(AuditKind::Logout).by(caller.user.id, caller.address)],
        Timestamp::now(),
    )
    .await?;
    write.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `DELETE /v1/sessions/{id}`: ends a session of the caller, or of any account for an admin. Others get the answer for an unknown session.
#[utoipa::path(
    delete,
    path = "/v1/sessions/{id}",
    tag = "Accounts",
    params(("id" = SessionId, Path, description = "The session")), security(("session" = [])),
    responses((status = 204, description = "It has ended"))
)]
pub(crate) async fn delete_named_session(
    Shared(state): Shared<Arc<State>>,
    SignedInUser { user, address, .. }: SignedInUser,
    Path(id): Path<SessionId>,
) -> Result<StatusCode> {
    let owner = (user.role < Role::Admin).then_some(user.id);
    let mut write = state.db.write().await?;
    if !accounts::store::end_named_session(&mut write, id, owner).await? {
        return Err(Error::NotFound);
    }
    let entry = AuditEntry::new(AuditKind::Logout).by(user.id, address).about(id);
    audit::record(&mut write, &[entry], Timestamp::now()).await?;
    write.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `DELETE /v1/sessions`: ends the caller's other sessions.
#[utoipa::path(
    delete,
    path = "/v1/sessions",
    tag = "Accounts",
    security(("session" = [])),
    responses((status = 204, description = "Only the one that asked is left"))
)]
pub(crate) async fn delete_other_sessions(
    Shared(state): Shared<Arc<State>>,
    caller: SignedInUser,
) -> Result<StatusCode> {
    let user = caller.user.id;
    let mut write = state.db.write().await?;
    let ended = accounts::store::end_other_sessions(&mut write, user, caller.session).await?;
    if ended > 0 {
        let entry = AuditEntry::new(AuditKind::Logout).by(user, caller.address).about("all others").times(ended);
        audit::record(&mut write, &[entry], Timestamp::now()).await?;
    }
    write.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}
