use std::sync::Arc;

use axum::{extract::State as Shared, http::StatusCode};
use jiff::Timestamp;
use lifecycle::http::Path;
use wire::FileId;

use super::show_file::existing;
use crate::{
    app::State,
    caller::Reader,
    error::{Error, Result},
    store::{accounts::Role, files},
};

/// `DELETE /v1/files/{id}`: gone from the catalogue at once, from the servers as they hear of it.
pub(super) async fn delete_file(
    Shared(state): Shared<Arc<State>>,
    Reader { user, .. }: Reader,
    Path(id): Path<FileId>,
) -> Result<StatusCode> {
    let file = existing(&state, id).await?;
    if file.owner != user.id && user.role < Role::Admin {
        return Err(Error::Forbidden("only its publisher or an admin removes a file"));
    }
    let mut write = state.store.write().await?;
    if let Some(seq) = files::remove(&mut write, id, Timestamp::now()).await? {
        write.commit().await?;
        state.log.committed(seq);
        tracing::info!(file = %id, "removed");
    }
    Ok(StatusCode::ACCEPTED)
}
