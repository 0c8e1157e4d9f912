use std::sync::Arc;

use axum::{extract::State as Shared, http::StatusCode};
use http_front::{extract::Path, openapi::Conflict};
use wire::{ProblemKind, ServerId, account::Role, grammar::counted, server::DrainStatus};

use crate::{
    error::{Error, Result, conflict},
    fleet::{candidate::Candidate, store},
    http::auth::SignedInUser,
    replication::{candidates, goal::ReplicationGoal, plan, store::assignments::AssignedFiles},
    state::State,
};

/// Files of a server that are planned on the other servers, to find those that would be stuck.
const MAX_SAMPLED_FILES: u32 = 100;
/// Stuck files that the answer names.
const MAX_NAMED_FILES: usize = 5;

/// `POST /v1/servers/{id}/drain`: moves a server's replicas to other servers. Idempotent; the answer counts what is left.
#[utoipa::path(
    post,
    path = "/v1/servers/{id}/drain",
    tag = "Servers",
    params(("id" = ServerId, Path, description = "The server")), security(("session" = [])),
    responses((status = 202, description = "It is draining", body = DrainStatus), Conflict)
)]
pub(crate) async fn drain_server(
    Shared(state): Shared<Arc<State>>,
    caller: SignedInUser,
    Path(id): Path<ServerId>,
) -> Result<(StatusCode, axum::Json<DrainStatus>)> {
    must_administer(&caller)?;
    let status = status(&state, &id).await?;
    if !status.draining && status.stuck > 0 {
        let named: Vec<String> = status.stuck_files.iter().map(ToString::to_string).collect();
        let detail = format!(
            "{id} holds {}, and for some of them ({}) there is no other live file server with room where they are to \
             stand: start another one there first",
            counted(status.files, "file"),
            named.join(", ")
        );
        return Err(Error::Refused(conflict(ProblemKind::TooFewServers, "Too few file servers").detail(detail)));
    }
    set_draining(&state, &id, true).await?;
    Ok((StatusCode::ACCEPTED, axum::Json(DrainStatus { draining: true, ..status })))
}

/// `DELETE /v1/servers/{id}/drain`: ends the draining; the server takes files again.
#[utoipa::path(
    delete,
    path = "/v1/servers/{id}/drain",
    tag = "Servers",
    params(("id" = ServerId, Path, description = "The server")), security(("session" = [])),
    responses((status = 204, description = "It takes files again"))
)]
pub(crate) async fn undrain_server(
    Shared(state): Shared<Arc<State>>,
    caller: SignedInUser,
    Path(id): Path<ServerId>,
) -> Result<StatusCode> {
    must_administer(&caller)?;
    status(&state, &id).await?;
    set_draining(&state, &id, false).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `GET /v1/servers/{id}/drain`: what a draining server still holds.
#[utoipa::path(
    get,
    path = "/v1/servers/{id}/drain",
    tag = "Servers",
    params(("id" = ServerId, Path, description = "The server")), security(("session" = [])),
    responses((status = 200, description = "The files and bytes that are left", body = DrainStatus))
)]
pub(crate) async fn show_drain(
    Shared(state): Shared<Arc<State>>,
    _: SignedInUser,
    Path(id): Path<ServerId>,
) -> Result<axum::Json<DrainStatus>> {
    status(&state, &id).await.map(axum::Json)
}

fn must_administer(caller: &SignedInUser) -> Result<()> {
    if caller.user.role < Role::Admin { Err(Error::Forbidden("only an admin empties a file server")) } else { Ok(()) }
}

async fn status(state: &State, id: &ServerId) -> Result<DrainStatus> {
    let servers = candidates::load(&state.db, &state.fleet, state.config.replication.repair_after).await?;
    let draining = servers.iter().find(|server| server.id == *id).ok_or(Error::NotFound)?.draining;
    let AssignedFiles { files, bytes } = state.db.held_by(id).await?;
    // The fleet without this server, once the replicas under way have arrived.
    let others = servers.into_iter().map(|server| Candidate {
        draining: server.draining || server.id == *id,
        in_flight: 0,
        ..server
    });
    let others: Vec<Candidate> = others.collect();
    let mut stuck_files = Vec::new();
    for file in state.db.assigned_to(id, MAX_SAMPLED_FILES).await? {
        if let Some(goal) = ReplicationGoal::load(&state.db, file, state.config.replication.default_replicas).await?
            && plan::plan(&goal.plan_input(), &others).short > 0
        {
            stuck_files.push(file);
        }
    }
    let stuck = u32::try_from(stuck_files.len())?;
    stuck_files.truncate(MAX_NAMED_FILES);
    Ok(DrainStatus { server: id.clone(), draining, files, bytes, stuck, stuck_files })
}

async fn set_draining(state: &State, id: &ServerId, draining: bool) -> Result<()> {
    let unchanged = state.registry().get(id).is_some_and(|server| server.draining == draining);
    if !unchanged {
        let mut write = state.db.write().await?;
        store::set_draining(&mut write, id, draining).await?;
        write.commit().await?;
        state.fleet.registry_mut().set_draining(id, draining);
        tracing::info!(server = %id, draining, "File server {id}: draining is now {draining}");
        state.planner.wake();
    }
    Ok(())
}
