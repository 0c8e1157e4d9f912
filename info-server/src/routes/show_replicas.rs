use std::sync::Arc;

use axum::extract::State as Shared;
use lifecycle::http::Path;
use wire::{
    FileId,
    catalog::{Dispute, ReplicaInfo, ReplicaStatus},
};

use crate::{
    app::State,
    caller::Reader,
    catalogue::visible,
    error::Result,
    replication::{plan, planner, standing::Standing, subject::Wanted},
};

/// `GET /v1/files/{id}/replicas`: where a file should stand, and where it verifiably does.
#[utoipa::path(
    get,
    path = "/v1/files/{id}/replicas",
    tag = "Files",
    params(("id" = FileId, Path, description = "The file")), security(("session" = [])),
    responses((status = 200, description = "Wanted and there, by zone and server", body = ReplicaStatus))
)]
pub(super) async fn show_replicas(
    Shared(state): Shared<Arc<State>>,
    Reader { user, .. }: Reader,
    Path(id): Path<FileId>,
) -> Result<axum::Json<ReplicaStatus>> {
    let file = visible(&state, id, &user).await?;
    let standing = Standing::of_entry(&state, &file).await?;
    let chunks = file.layout.count();
    let replicas = standing.servers().iter().filter(|held| held.part.assigned() || standing.concerns(&held.server.id));
    let replicas = replicas.map(|held| ReplicaInfo {
        server: held.server.id.clone(),
        zone: held.server.zone.clone(),
        live: held.live,
        assigned: held.part.assigned(),
        draining: held.server.draining,
        verified: standing.verified(&held.part),
    });
    let mut replicas: Vec<ReplicaInfo> = replicas.collect();
    replicas.sort_by(|a, b| a.server.cmp(&b.server));
    let servers = planner::candidates(&state).await?;
    let wanted = Wanted::of(&state, id).await?;
    // Before its content is fixed nothing of a file can be verified as a whole.
    let zones = wanted.map(|wanted| plan::status(&wanted.subject(), &servers)).unwrap_or_default();
    let replicated = !zones.is_empty() && zones.values().all(|zone| zone.complete >= zone.wanted);
    let disputes = state.store.disagreeing(id).await?;
    let disputes = disputes.into_iter().map(|(server, sha256)| Dispute { server, sha256 }).collect();
    Ok(axum::Json(ReplicaStatus { file: id, chunks, replicated, zones, replicas, disputes }))
}
