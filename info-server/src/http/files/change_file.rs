use std::sync::Arc;

use axum::{extract::State as Shared, http::StatusCode};
use http_front::{
    extract::{Json, Path},
    openapi::{Conflict, Forbidden},
};
use jiff::Timestamp;
use serde_json::json;
use wire::{FileId, ProblemKind, catalogue::FileChange};

use crate::{
    accounts::{
        account::User,
        audit::{AuditEntry, AuditKind},
        store::audit,
    },
    catalogue::{
        self,
        file::File,
        visibility::{must_be_changeable_by, visible},
    },
    error::{Error, Result, conflict},
    http::{auth::SignedInUser, client_ip::ClientIp},
    state::State,
};

/// `PATCH /v1/files/{id}`: gives a file another name.
#[utoipa::path(
    patch,
    path = "/v1/files/{id}",
    tag = "Files",
    params(("id" = FileId, Path, description = "The file")), request_body = FileChange, security(("session" = [])),
    responses((status = 204, description = "Changed"), Forbidden, Conflict)
)]
pub(crate) async fn change_file(
    Shared(state): Shared<Arc<State>>,
    SignedInUser { user, .. }: SignedInUser,
    ClientIp(address): ClientIp,
    Path(id): Path<FileId>,
    Json(wanted): Json<FileChange>,
) -> Result<StatusCode> {
    let file = changeable(&state, id, &user).await?;
    let Some(name) = wanted.name.filter(|name| *name != file.name) else { return Ok(StatusCode::NO_CONTENT) };
    let now = Timestamp::now();
    let mut write = state.db.write().await?;
    if !catalogue::store::rename(&mut write, id, &name).await? {
        return Err(Error::NotFound);
    }
    let detail = json!({ "name": name, "before": file.name });
    let entry = AuditEntry::new(AuditKind::FileChanged).by(user.id, address).about(id).with(detail);
    audit::record(&mut write, &[entry], now).await?;
    write.commit().await?;
    tracing::info!(file = %id, "File {id} is called {name} now");
    Ok(StatusCode::NO_CONTENT)
}

/// Returns a file that the caller may change. What a job made belongs to the job.
pub(crate) async fn changeable(state: &State, id: FileId, user: &User) -> Result<File> {
    let file = visible(&state.db, id, user).await?;
    must_be_changeable_by(&file, user)?;
    match file.job {
        None => Ok(file),
        Some(job) => {
            let problem = conflict(ProblemKind::InJob, "File belongs to a job");
            Err(Error::Refused(problem.detail(format!("the job {job} made it: publish it to change it"))))
        }
    }
}
