use std::sync::Arc;

use axum::{extract::State as Shared, http::StatusCode};
use lifecycle::http::Path;
use wire::ServerId;

use crate::{app::State, caller::FileServer, error::Result, registration};

/// `DELETE /v1/servers/{id}`: goodbye; nobody is sent there from then on.
#[utoipa::path(
    delete,
    path = "/v1/servers/{id}",
    tag = "File servers",
    params(("id" = ServerId, Path, description = "The server")), security(("server" = [])),
    responses((status = 204, description = "Nobody is sent there any more"))
)]
pub(super) async fn delete_server(
    Shared(state): Shared<Arc<State>>,
    caller: FileServer,
    Path(id): Path<ServerId>,
) -> Result<StatusCode> {
    caller.must_be(&id)?;
    registration::leave(&state, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}
