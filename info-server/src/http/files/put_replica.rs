use std::sync::Arc;

use axum::{extract::State as Shared, http::StatusCode};
use http_front::extract::{Json, Path};
use wire::{FileId, Problem, ProblemKind, ServerId, catalogue::FileState, server::ReplicaReport};

use crate::{
    catalogue::{store::orphans, visibility::existing},
    error::{Error, Result},
    http::auth::FileServer,
    jobs::model::job::kept_result::ReplicaDigests,
    replication::{digest_conflicts, reports},
    state::State,
};

/// `PUT /v1/files/{id}/replicas/{server}`: all chunks that the server holds now.
#[utoipa::path(
    put,
    path = "/v1/files/{id}/replicas/{server}",
    tag = "File servers",
    params(("id" = FileId, Path, description = "The file"), ("server" = ServerId, Path, description = "The reporting server")), request_body = ReplicaReport, security(("server" = [])),
    responses((status = 204, description = "Taken; lower counters are ignored"))
)]
pub(crate) async fn put_replica(
    Shared(state): Shared<Arc<State>>,
    caller: FileServer,
    Path((id, server)): Path<(FileId, ServerId)>,
    Json(report): Json<ReplicaReport>,
) -> Result<StatusCode> {
    caller.must_be(&server)?;
    let known = state.db.file(id).await?;
    if known.is_none() && report.runs.is_empty() && orphans::forget_removed(&state.db, &server, id).await? {
        return Ok(StatusCode::NO_CONTENT);
    }
    if known.is_some_and(|file| file.state == FileState::Deleting) {
        // Not an orphaned file: a server that still holds it gets the answer that it was deleted.
        let gone = Problem::new(410, ProblemKind::Deleted, "File deleted").detail(id.to_string());
        return if report.runs.is_empty() { Ok(StatusCode::NO_CONTENT) } else { Err(Error::Refused(gone)) };
    }
    let file = existing(&state.db, id).await?;
    reports::check(&report, file.layout)?;
    let changed = reports::store(&state.db, id, &server, &report).await?;
    state.reported.notify_waiters();
    if changed {
        state.planner.push(id);
        if report.root.is_some() {
            state.link_bandwidth().end(&server, id);
        }
    }
    if let (Some(job), Some(root), Some(sha256)) = (file.job, report.root, report.sha256) {
        state.jobs.verify_replica(job, ReplicaDigests { root, sha256 }).await?;
    }
    if report.sha256.is_some() {
        digest_conflicts::log(&state.db, id).await?;
    }
    Ok(StatusCode::NO_CONTENT)
}
