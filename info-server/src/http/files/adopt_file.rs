use std::sync::Arc;

use axum::{extract::State as Shared, http::StatusCode};
use http_front::{
    extract::{Json, Path},
    openapi::Conflict,
};
use jiff::Timestamp;
use serde_json::json;
use wire::{
    ChunkLayout, ChunkSet, FileId, ProblemKind, ServerId,
    catalogue::{Adoption, FileState, FileSummary},
};

use crate::{
    accounts::{
        audit::{AuditEntry, AuditKind},
        store::audit,
    },
    catalogue::{
        self,
        file::{Content, File, content_of, summary},
        publication,
        store::orphans,
    },
    db::Write,
    error::{Error, Result, conflict, invalid},
    http::{auth::Admin, client_ip::ClientIp},
    replication::{policy, store::assignments},
    state::State,
};

/// `POST /v1/files/{id}/adopt`: takes an orphaned file into the catalogue again, under its id. Its replicas count once the servers
/// have reported them. Nothing in the catalogue can tell who published it, so that an admin decides.
#[utoipa::path(
    post,
    path = "/v1/files/{id}/adopt",
    tag = "Files",
    params(("id" = FileId, Path, description = "The file")), request_body = Adoption, security(("session" = [])),
    responses((status = 201, description = "Published", body = FileSummary), Conflict)
)]
pub(crate) async fn adopt_file(
    Shared(state): Shared<Arc<State>>,
    Admin(user): Admin,
    ClientIp(address): ClientIp,
    Path(id): Path<FileId>,
    Json(adoption): Json<Adoption>,
) -> Result<(StatusCode, axum::Json<FileSummary>)> {
    let layout =
        ChunkLayout::checked(adoption.size, adoption.chunk_size).map_err(|error| invalid(error.to_string()))?;
    let content = content_of(layout, &adoption.chunks, adoption.sha256)?;
    let policy = policy::resolve(adoption.policy.unwrap_or_default(), &state.config.replication, 1)?;
    let file = File {
        id,
        name: adoption.name,
        layout,
        media_type: None,
        state: FileState::Uploading,
        quorum: 1,
        owner: user.id,
        created_at: Timestamp::now(),
        content: None,
        job: None,
        lost_chunks: ChunkSet::new(),
    };
    let now = file.created_at;
    let mut write = state.db.write().await?;
    let holders = orphans::holders(&mut write, id).await?;
    if holders.is_empty() {
        let problem = conflict(ProblemKind::NotUnknown, "File not held as an unknown one");
        return Err(Error::Refused(problem.detail("the catalogue knows it, or no server has asked about it yet")));
    }
    catalogue::store::add(&mut write, &file, &policy).await?;
    catalogue::store::publish(&mut write, id, content, &adoption.chunks).await?;
    let newest = announce(&state, &mut write, &file, content, &holders).await?;
    orphans::forget(&mut write, id).await?;
    let detail = json!({ "name": file.name, "size": layout.size(), "sha256": content.sha256, "adopted": true });
    let entry = AuditEntry::new(AuditKind::FileCommitted).by(user.id, address).about(id).with(detail);
    audit::record(&mut write, &[entry], now).await?;
    write.commit().await?;
    state.log.announce(newest);
    state.planner.push(id);
    tracing::info!(file = %id, holders = holders.len(), "File {id} adopted: it was orphaned");
    let file = File { state: FileState::Available, content: Some(content), ..file };
    Ok((StatusCode::CREATED, axum::Json(summary(file, 0, false))))
}

/// Announces the file to the zones of its holders, and assigns it to them.
async fn announce(
    state: &State,
    write: &mut Write,
    file: &File,
    content: Content,
    holders: &[ServerId],
) -> Result<u64> {
    let zones = state.registry().zones_of(holders);
    let mut newest = publication::announce(write, file, content, zones, file.created_at).await?;
    for server in holders {
        newest = assignments::assign(write, file.id, server, file.created_at).await?;
    }
    Ok(newest)
}
