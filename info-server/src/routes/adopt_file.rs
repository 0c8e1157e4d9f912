use std::{collections::BTreeSet, sync::Arc};

use axum::{extract::State as Shared, http::StatusCode};
use jiff::Timestamp;
use lifecycle::{
    api::Conflict,
    http::{Json, Path},
};
use serde_json::json;
use wire::{
    FileId, Layout, ServerId, Zone,
    catalog::{Adoption, FileState, FileSummary},
    event::{Fact, Stream},
};

use super::create_file::resolved;
use crate::{
    app::State,
    caller::Publisher,
    catalogue::{content_of, summary},
    error::{Error, Result, conflict, invalid},
    peer::Client,
    store::{
        assignments,
        audit::{self, Deed, Kind},
        files::{self, Content, File},
        outbox, unknown,
    },
};

/// `POST /v1/files/{id}/adopt`: takes a file that servers hold and the catalogue does not know into the catalogue, under its id. Its
/// replicas count once the servers have reported them.
#[utoipa::path(
    post,
    path = "/v1/files/{id}/adopt",
    tag = "Files",
    params(("id" = FileId, Path, description = "The file")), request_body = Adoption, security(("session" = [])),
    responses((status = 201, description = "Published", body = FileSummary), Conflict)
)]
pub(super) async fn adopt_file(
    Shared(state): Shared<Arc<State>>,
    Publisher(user, _): Publisher,
    Client(address): Client,
    Path(id): Path<FileId>,
    Json(adoption): Json<Adoption>,
) -> Result<(StatusCode, axum::Json<FileSummary>)> {
    let layout = Layout::checked(adoption.size, adoption.chunk_size).map_err(|error| invalid(error.to_string()))?;
    let content = content_of(layout, &adoption.chunks, adoption.sha256)?;
    let policy = resolved(&state, adoption.policy.unwrap_or_default(), 1)?;
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
    };
    let now = file.created_at;
    let mut write = state.store.write().await?;
    let holders = unknown::holders(&mut write, id).await?;
    if holders.is_empty() {
        let problem = conflict("not-unknown", "No file server holds this file as an unknown one");
        return Err(Error::Refused(problem.detail("the catalogue knows it, or no server has asked about it yet")));
    }
    files::add(&mut write, &file, &policy).await?;
    files::publish(&mut write, id, content, &adoption.chunks).await?;
    let newest = tell(&state, &mut write, (&file, content), &holders).await?;
    unknown::forget(&mut write, id).await?;
    let detail = json!({ "name": file.name, "size": layout.size(), "sha256": content.sha256, "adopted": true });
    let deed = Deed::new(Kind::FileCommitted).by(user.id, address).about(id).with(detail);
    audit::record(&mut write, &[deed], now).await?;
    write.commit().await?;
    state.log.committed(newest);
    state.planner.look_at(id);
    tracing::info!(file = %id, holders = holders.len(), "a file that was unknown is adopted");
    let file = File { state: FileState::Available, content: Some(content), ..file };
    Ok((StatusCode::CREATED, axum::Json(summary(file, 0))))
}

/// Tells those who hold it that they are to, and their zones what it is.
async fn tell(
    state: &State,
    write: &mut crate::store::Write,
    (file, content): (&File, Content),
    holders: &[ServerId],
) -> Result<u64> {
    let zones: BTreeSet<Zone> = {
        let registry = state.registry();
        holders.iter().filter_map(|server| registry.get(server)).map(|server| server.zone.clone()).collect()
    };
    let fact = Fact::FilePublished {
        file: file.id,
        size: file.layout.size(),
        chunk_size: file.layout.chunk_size(),
        root: content.root,
        sha256: content.sha256,
    };
    let mut newest = 0;
    for zone in zones {
        newest = outbox::append(write, &Stream::Zone(zone), &fact, file.created_at).await?;
    }
    for server in holders {
        newest = assignments::assign(write, file.id, server, file.created_at).await?;
    }
    Ok(newest)
}
