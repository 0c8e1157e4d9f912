use std::sync::Arc;

use axum::{extract::State as Shared, http::StatusCode};
use http_front::{
    extract::{Path, Query},
    openapi::Conflict,
};
use jiff::Timestamp;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};
use wire::{FileId, ProblemKind, account::Role, catalogue::FileState};

use crate::{
    accounts::{
        audit::{AuditEntry, AuditKind},
        store::audit,
    },
    catalogue::visibility::{existing, not_of_a_job, visible},
    error::{Error, Result, conflict},
    http::auth::SignedInUser,
    replication::removal,
    state::State,
};

#[derive(Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default)]
pub(crate) struct Condition {
    /// Remove the file only in this state; a published one is left alone then.
    #[param(inline)]
    state: Option<RemovableState>,
}

/// State that a removal may be limited to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum RemovableState {
    Uploading,
}

/// `DELETE /v1/files/{id}?state=`: removes a file from the catalogue at once, and from the servers as they receive the event.
#[utoipa::path(
    delete,
    path = "/v1/files/{id}",
    tag = "Files",
    params(("id" = FileId, Path, description = "The file"), Condition), security(("session" = [])),
    responses((status = 202, description = "Gone from the catalogue; the servers follow"), Conflict)
)]
pub(crate) async fn delete_file(
    Shared(state): Shared<Arc<State>>,
    SignedInUser { user, address, .. }: SignedInUser,
    Path(id): Path<FileId>,
    Query(condition): Query<Condition>,
) -> Result<StatusCode> {
    let file = visible(&state.db, id, &user).await?;
    if file.owner != user.id && user.role < Role::Admin {
        return Err(Error::Forbidden("only its publisher or an admin removes a file"));
    }
    not_of_a_job(&file)?;
    let uploads_only = condition.state == Some(RemovableState::Uploading);
    if uploads_only && file.state != FileState::Uploading {
        return Err(already_published());
    }
    if let Some(job) = file.job {
        // A kept result: the job must not remember a file that is gone.
        let entry = AuditEntry::new(AuditKind::FileDeleted).by(user.id, address).about(id);
        state.jobs.remove_result(job, entry).await?;
        return Ok(StatusCode::ACCEPTED);
    }
    let mut write = state.db.write().await?;
    let now = Timestamp::now();
    let removed = if uploads_only {
        removal::remove_upload(&mut write, id, Timestamp::MAX, now).await?
    } else {
        removal::remove_file(&mut write, id, now).await?
    };
    if let Some(seq) = removed {
        let entry = AuditEntry::new(AuditKind::FileDeleted).by(user.id, address).about(id);
        audit::record(&mut write, &[entry], now).await?;
        write.commit().await?;
        state.log.announce(seq);
        tracing::info!(file = %id, "File {id} removed");
    } else if uploads_only {
        drop(write);
        // It was committed, or removed, since it was read.
        existing(&state.db, id).await?;
        return Err(already_published());
    }
    Ok(StatusCode::ACCEPTED)
}

fn already_published() -> Error {
    let detail = "it is no unfinished upload: remove it without state=uploading";
    Error::Refused(conflict(ProblemKind::AlreadyPublished, "File published already").detail(detail))
}
