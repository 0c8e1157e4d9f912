use std::sync::Arc;

use axum::extract::State as Shared;
use http_front::extract::Path;
use wire::{
    FileId,
    catalogue::{FilePolicy, PreheatRequest},
};

use crate::{
    catalogue::visibility::visible, error::Result, http::auth::SignedInUser, replication::plan::ReplicaTarget,
    state::State,
};

/// `GET /v1/files/{id}/policy`: the servers and zones that are to hold a file.
#[utoipa::path(
    get,
    path = "/v1/files/{id}/policy",
    tag = "Files",
    params(("id" = FileId, Path, description = "The file")), security(("session" = [])),
    responses((status = 200, description = "Its policy, and the further zones it was requested in", body = FilePolicy))
)]
pub(crate) async fn show_policy(
    Shared(state): Shared<Arc<State>>,
    SignedInUser { user, .. }: SignedInUser,
    Path(id): Path<FileId>,
) -> Result<axum::Json<FilePolicy>> {
    visible(&state.db, id, &user).await?;
    Ok(axum::Json(present(&state, id).await?))
}

/// Returns the policy of a file, and the further zones that it was requested in.
pub(crate) async fn present(state: &State, id: FileId) -> Result<FilePolicy> {
    let policy = state.db.policy(id).await?.unwrap_or_default();
    let preheats = state.db.preheats(id).await?.into_iter().filter_map(preheat).collect();
    Ok(FilePolicy { policy, preheats })
}

fn preheat(target: ReplicaTarget) -> Option<PreheatRequest> {
    Some(PreheatRequest { zone: target.zone?, replicas: Some(target.replicas) })
}
