use std::sync::Arc;

use axum::{extract::State as Shared, http::StatusCode};
use jiff::Timestamp;
use lifecycle::{api::Conflict, http::Path};
use wire::FileId;

use crate::{
    app::State,
    caller::Reader,
    catalogue::{not_of_a_job, visible},
    error::{Error, Result},
    store::{
        accounts::Role,
        audit::{self, Deed, Kind},
        files,
    },
};

/// `DELETE /v1/files/{id}`: gone from the catalogue at once, from the servers as they hear of it.
#[utoipa::path(
    delete,
    path = "/v1/files/{id}",
    tag = "Files",
    params(("id" = FileId, Path, description = "The file")), security(("session" = [])),
    responses((status = 202, description = "Gone from the catalogue; the servers follow"), Conflict)
)]
pub(super) async fn delete_file(
    Shared(state): Shared<Arc<State>>,
    Reader { user, address, .. }: Reader,
    Path(id): Path<FileId>,
) -> Result<StatusCode> {
    let file = visible(&state, id, &user).await?;
    if file.owner != user.id && user.role < Role::Admin {
        return Err(Error::Forbidden("only its publisher or an admin removes a file"));
    }
    not_of_a_job(&file)?;
    if let Some(job) = file.job {
        // A kept result: the job remembers nothing that is not there.
        let deed = Deed::new(Kind::FileDeleted).by(user.id, address).about(id);
        state.jobs.act(move |board, now| board.remove(job, deed, now)).await?;
        return Ok(StatusCode::ACCEPTED);
    }
    let mut write = state.store.write().await?;
    if let Some(seq) = files::remove(&mut write, id, Timestamp::now()).await? {
        let deed = Deed::new(Kind::FileDeleted).by(user.id, address).about(id);
        audit::record(&mut write, &[deed], Timestamp::now()).await?;
        write.commit().await?;
        state.log.committed(seq);
        tracing::info!(file = %id, "removed");
    }
    Ok(StatusCode::ACCEPTED)
}
