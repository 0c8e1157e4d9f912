use std::sync::Arc;

use axum::{extract::State as Shared, http::StatusCode};
use http_front::{extract::Path, openapi::Conflict};
use jiff::Timestamp;
use wire::{FileId, account::Role};

use crate::{
    accounts::{
        audit::{AuditEntry, AuditKind},
        store::audit,
    },
    catalogue::visibility::{not_of_a_job, visible},
    error::{Error, Result},
    http::auth::SignedInUser,
    replication::removal,
    state::State,
};

/// `DELETE /v1/files/{id}`: removes a file from the catalogue at once, and from the servers as they receive the event.
#[utoipa::path(
    delete,
    path = "/v1/files/{id}",
    tag = "Files",
    params(("id" = FileId, Path, description = "The file")), security(("session" = [])),
    responses((status = 202, description = "Gone from the catalogue; the servers follow"), Conflict)
)]
pub(crate) async fn delete_file(
    Shared(state): Shared<Arc<State>>,
    SignedInUser { user, address, .. }: SignedInUser,
    Path(id): Path<FileId>,
) -> Result<StatusCode> {
    let file = visible(&state.db, id, &user).await?;
    if file.owner != user.id && user.role < Role::Admin {
        return Err(Error::Forbidden("only its publisher or an admin removes a file"));
    }
    not_of_a_job(&file)?;
    if let Some(job) = file.job {
        // A kept result: the job must not remember a file that is gone.
        let entry = AuditEntry::new(AuditKind::FileDeleted).by(user.id, address).about(id);
        state.jobs.remove_result(job, entry).await?;
        return Ok(StatusCode::ACCEPTED);
    }
    let mut write = state.db.write().await?;
    if let Some(seq) = removal::remove_file(&mut write, id, Timestamp::now()).await? {
        let entry = AuditEntry::new(AuditKind::FileDeleted).by(user.id, address).about(id);
        audit::record(&mut write, &[entry], Timestamp::now()).await?;
        write.commit().await?;
        state.log.announce(seq);
        tracing::info!(file = %id, "File {id} removed");
    }
    Ok(StatusCode::ACCEPTED)
}
