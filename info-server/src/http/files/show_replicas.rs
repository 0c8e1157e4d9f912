use std::sync::Arc;

use axum::extract::State as Shared;
use http_front::extract::Path;
use wire::{
    FileId,
    catalogue::{ReplicaInfo, ReplicaStatus},
};

use crate::{
    catalogue::visibility::visible,
    error::Result,
    http::auth::SignedInUser,
    jobs::job_file,
    replication::{candidates, goal::ReplicationGoal, plan},
    state::State,
};

/// `GET /v1/files/{id}/replicas`: the replicas that a file should have, and those that it verifiably has.
#[utoipa::path(
    get,
    path = "/v1/files/{id}/replicas",
    tag = "Files",
    params(("id" = FileId, Path, description = "The file")), security(("session" = [])),
    responses((status = 200, description = "The replicas that are wanted and those that exist, by zone and server", body = ReplicaStatus))
)]
pub(crate) async fn show_replicas(
    Shared(state): Shared<Arc<State>>,
    SignedInUser { user, .. }: SignedInUser,
    Path(id): Path<FileId>,
) -> Result<axum::Json<ReplicaStatus>> {
    let file = visible(&state.db, id, &user).await?;
    let map = job_file::replica_map(&state.jobs, &state.db, &state.fleet, &file).await?;
    let chunks = file.layout.count();
    let replicas = map.servers().iter().filter(|replica| replica.record.assigned() || map.concerns(&replica.server.id));
    let replicas = replicas.map(|replica| map.describe(replica));
    let mut replicas: Vec<ReplicaInfo> = replicas.collect();
    replicas.sort_by(|a, b| a.server.cmp(&b.server));
    let servers = candidates::load(&state.db, &state.fleet, state.config.replication.repair_after).await?;
    let goal = ReplicationGoal::load(&state.db, id, state.config.replication.default_replicas).await?;
    // Before its content is fixed nothing of a file can be verified as a whole.
    let zones = goal.map(|goal| plan::status(&goal.plan_input(), &servers)).unwrap_or_default();
    let replicated = !zones.is_empty() && zones.values().all(|zone| zone.complete >= zone.wanted);
    let disputes = file.content.iter().flat_map(|content| map.digest_conflicts(content.sha256)).collect();
    let missing = map.missing(file.layout);
    Ok(axum::Json(ReplicaStatus { file: id, chunks, replicated, zones, replicas, disputes, missing }))
}
