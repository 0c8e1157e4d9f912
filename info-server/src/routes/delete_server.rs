use std::sync::Arc;

use axum::{extract::State as Shared, http::StatusCode};
use lifecycle::http::Path;
use wire::ServerId;

use crate::{app::State, caller::FileServer, error::Result, store::servers};

/// `DELETE /v1/servers/{id}`: goodbye; nobody is sent there from then on.
pub(super) async fn delete_server(
    Shared(state): Shared<Arc<State>>,
    caller: FileServer,
    Path(id): Path<ServerId>,
) -> Result<StatusCode> {
    caller.must_be(&id)?;
    let left = state.registry_mut().leave(&id);
    if let Some(row) = left {
        let mut write = state.store.write().await?;
        servers::save(&mut write, &row).await?;
        write.commit().await?;
        tracing::info!(server = %id, "left");
    }
    Ok(StatusCode::NO_CONTENT)
}
