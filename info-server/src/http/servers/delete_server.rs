use std::sync::Arc;

use axum::{extract::State as Shared, http::StatusCode};
use http_front::extract::Path;
use wire::ServerId;

use crate::{error::Result, fleet::registration, http::auth::FileServer, state::State};

/// `DELETE /v1/servers/{id}`: a server leaves; clients are not sent there from then on.
#[utoipa::path(
    delete,
    path = "/v1/servers/{id}",
    tag = "File servers",
    params(("id" = ServerId, Path, description = "The server")), security(("server" = [])),
    responses((status = 204, description = "Clients are not sent there any more"))
)]
pub(crate) async fn delete_server(
    Shared(state): Shared<Arc<State>>,
    caller: FileServer,
    Path(id): Path<ServerId>,
) -> Result<StatusCode> {
    caller.must_be(&id)?;
    registration::leave(&state.db, &state.fleet, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}
