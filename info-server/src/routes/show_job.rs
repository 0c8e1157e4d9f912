use std::sync::Arc;

use axum::extract::State as Shared;
use lifecycle::http::Path;
use wire::{JobId, job::JobInfo};

use crate::{
    app::State,
    caller::Reader,
    error::{Error, Result},
    jobs::job::Job,
    store::accounts::Role,
};

/// `GET /v1/jobs/{id}`: how a job stands; for those who asked for it, and admins.
#[utoipa::path(
    get,
    path = "/v1/jobs/{id}",
    tag = "Jobs",
    params(("id" = JobId, Path, description = "The job")), security(("session" = [])),
    responses((status = 200, description = "How it stands", body = JobInfo))
)]
pub(super) async fn show_job(
    Shared(state): Shared<Arc<State>>,
    reader: Reader,
    Path(id): Path<JobId>,
) -> Result<axum::Json<JobInfo>> {
    let viewer = viewer(&reader);
    let seen = state.jobs.act(move |board, _| board.jobs.get(&id).is_some_and(|job| may_see(job, viewer))).await?;
    if !seen {
        return Err(Error::NotFound);
    }
    info(&state, id).await?.map(axum::Json).ok_or(Error::NotFound)
}

/// Whose jobs are seen; everybody's without one.
pub(super) fn viewer(reader: &Reader) -> Option<i64> {
    (reader.user.role < Role::Admin).then_some(reader.user.id)
}

pub(super) fn may_see(job: &Job, viewer: Option<i64>) -> bool {
    viewer.is_none_or(|user| job.is_asker(user))
}

/// How a job stands.
pub(super) async fn info(state: &State, id: JobId) -> Result<Option<JobInfo>> {
    let zones = zones(state);
    let info = state
        .jobs
        .act(move |board, now| board.jobs.get(&id).map(|job| job.info(now.at, &|server| zones.get(server).cloned())));
    info.await
}

/// Where every server stands that ever enrolled.
pub(super) fn zones(state: &State) -> std::collections::BTreeMap<wire::ServerId, wire::Zone> {
    let registry = state.registry();
    let ids = registry.ids().into_iter();
    ids.filter_map(|id| registry.get(&id).map(|server| server.zone.clone()).map(|zone| (id, zone))).collect()
}
