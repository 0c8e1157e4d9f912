use std::sync::Arc;

use axum::{extract::State as Shared, http::StatusCode};
use jiff::Timestamp;
use lifecycle::http::{Json, Path};
use wire::{FileId, Problem, ServerId, catalog::FileState, server::ReplicaReport};

use crate::{
    app::State,
    caller::FileServer,
    catalogue::existing,
    error::{Error, Result, invalid},
    store::{assignments, replicas, unknown},
};

/// `PUT /v1/files/{id}/replicas/{server}`: what the server holds now, all of it.
#[utoipa::path(
    put,
    path = "/v1/files/{id}/replicas/{server}",
    tag = "File servers",
    params(("id" = FileId, Path, description = "The file"), ("server" = ServerId, Path, description = "The reporting server")), request_body = ReplicaReport, security(("server" = [])),
    responses((status = 204, description = "Taken; lower counters are ignored"))
)]
pub(super) async fn put_replica(
    Shared(state): Shared<Arc<State>>,
    caller: FileServer,
    Path((id, server)): Path<(FileId, ServerId)>,
    Json(report): Json<ReplicaReport>,
) -> Result<StatusCode> {
    caller.must_be(&server)?;
    let known = state.store.file(id).await?;
    if known.is_none() && report.runs.is_empty() && state.store.holds_unknown(&server, &[id]).await? {
        // An operator had it removed.
        let mut write = state.store.write().await?;
        unknown::note(&mut write, &server, (&[], &[id]), Timestamp::now()).await?;
        write.commit().await?;
        return Ok(StatusCode::NO_CONTENT);
    }
    if known.is_some_and(|file| file.state == FileState::Deleting) {
        // Not an unknown file: whoever still holds it learns that it is to go.
        let gone = Problem::new(410, "deleted", "The file was deleted").detail(id.to_string());
        return if report.runs.is_empty() { Ok(StatusCode::NO_CONTENT) } else { Err(Error::Refused(gone)) };
    }
    let file = existing(&state, id).await?;
    let all = file.layout.all();
    if !report.runs.gaps(0..file.layout.count()).is_empty() && report.root.is_some() {
        return Err(invalid("a root without all chunks proves nothing"));
    }
    if report.runs.iter().any(|run| !all.covers(run)) {
        return Err(invalid(format!("this file has {} chunks", file.layout.count())));
    }
    let mut write = state.store.write().await?;
    replicas::report(&mut write, id, &server, &report).await?;
    let changed = assignments::judge(&mut write, id).await?;
    write.commit().await?;
    state.reported.notify_waiters();
    if changed {
        state.planner.look_at(id);
        if report.root.is_some() {
            state.pulls().end(&server, id);
        }
    }
    if let (Some(job), Some(root), Some(sha256)) = (file.job, report.root, report.sha256) {
        state.jobs.act(move |board, now| board.read_back(job, (root, sha256), now)).await?;
    }
    if report.sha256.is_some() {
        compare(&state, id).await?;
    }
    Ok(StatusCode::NO_CONTENT)
}

/// Says it when the publisher's SHA-256 of the whole is not what holders of these very chunks computed: the chunks are right,
/// what users are told of the whole is not. The table of replicas keeps what each of them found.
pub(super) async fn compare(state: &State, file: FileId) -> Result<()> {
    for (server, found) in state.store.disagreeing(file).await? {
        tracing::error!(%file, %server, %found, "the publisher's SHA-256 of a file is not that of its content");
    }
    Ok(())
}
