use std::sync::Arc;

use axum::{extract::State as Shared, http::StatusCode};
use jiff::Timestamp;
use lifecycle::http::Path;
use wire::SessionId;

use crate::{
    app::State,
    caller::Reader,
    error::{Error, Result},
    store::{
        accounts::{self, Role},
        audit::{self, Deed, Kind},
    },
};

/// `DELETE /v1/sessions/current`: the token is dead from then on.
#[utoipa::path(
    delete,
    path = "/v1/sessions/current",
    tag = "Accounts",
    security(("session" = [])),
    responses((status = 204, description = "The token is dead from now on"))
)]
pub(super) async fn delete_session(Shared(state): Shared<Arc<State>>, reader: Reader) -> Result<StatusCode> {
    let mut write = state.store.write().await?;
    accounts::end_session(&mut write, reader.session).await?;
    audit::record(&mut write, &[Deed::new(Kind::Logout).by(reader.user.id, reader.address)], Timestamp::now()).await?;
    write.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `DELETE /v1/sessions/{id}`: one's own; an admin's reach is everybody's. Nobody else learns whether there is such a session.
#[utoipa::path(
    delete,
    path = "/v1/sessions/{id}",
    tag = "Accounts",
    params(("id" = SessionId, Path, description = "The session")), security(("session" = [])),
    responses((status = 204, description = "It has ended"))
)]
pub(super) async fn delete_named_session(
    Shared(state): Shared<Arc<State>>,
    Reader { user, address, .. }: Reader,
    Path(id): Path<SessionId>,
) -> Result<StatusCode> {
    let owner = (user.role < Role::Admin).then_some(user.id);
    let mut write = state.store.write().await?;
    if !accounts::end_named_session(&mut write, id, owner).await? {
        return Err(Error::NotFound);
    }
    let deed = Deed::new(Kind::Logout).by(user.id, address).about(id);
    audit::record(&mut write, &[deed], Timestamp::now()).await?;
    write.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `DELETE /v1/sessions`: all of one's own but the one that asks.
#[utoipa::path(
    delete,
    path = "/v1/sessions",
    tag = "Accounts",
    security(("session" = [])),
    responses((status = 204, description = "Only the one that asked is left"))
)]
pub(super) async fn delete_other_sessions(Shared(state): Shared<Arc<State>>, reader: Reader) -> Result<StatusCode> {
    let user = reader.user.id;
    let mut write = state.store.write().await?;
    let ended = accounts::end_other_sessions(&mut write, user, reader.session).await?;
    if ended > 0 {
        let deed = Deed::new(Kind::Logout).by(user, reader.address).about("all others").times(ended);
        audit::record(&mut write, &[deed], Timestamp::now()).await?;
    }
    write.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}
