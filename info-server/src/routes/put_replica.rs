use std::sync::Arc;

use axum::{extract::State as Shared, http::StatusCode};
use lifecycle::http::{Json, Path};
use wire::{FileId, ServerId, server::ReplicaReport};

use super::show_file::existing;
use crate::{
    app::State,
    caller::FileServer,
    error::{Result, invalid},
    store::replicas,
};

/// `PUT /v1/files/{id}/replicas/{server}`: what the server holds now, all of it.
pub(super) async fn put_replica(
    Shared(state): Shared<Arc<State>>,
    caller: FileServer,
    Path((id, server)): Path<(FileId, ServerId)>,
    Json(report): Json<ReplicaReport>,
) -> Result<StatusCode> {
    caller.must_be(&server)?;
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
    write.commit().await?;
    state.reported.notify_waiters();
    Ok(StatusCode::NO_CONTENT)
}
