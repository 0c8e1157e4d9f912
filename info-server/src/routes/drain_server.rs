use std::sync::Arc;

use axum::{extract::State as Shared, http::StatusCode};
use lifecycle::{api::Conflict, http::Path};
use wire::{ServerId, server::DrainStatus};

use crate::{
    app::State,
    caller::Reader,
    error::{Error, Result, conflict},
    replication::{
        plan::{self, Candidate},
        planner,
        subject::Wanted,
    },
    store::{accounts::Role, servers},
};

/// Files of a server that are looked at to tell whether others could hold them.
const SAMPLE: u32 = 100;
/// Of those that are stuck, how many are named.
const NAMED: usize = 5;

/// `POST /v1/servers/{id}/drain`: what it holds is placed elsewhere and then dropped there. Idempotent; says what is left.
#[utoipa::path(
    post,
    path = "/v1/servers/{id}/drain",
    tag = "Servers",
    params(("id" = ServerId, Path, description = "The server")), security(("session" = [])),
    responses((status = 202, description = "It is being emptied", body = DrainStatus), Conflict)
)]
pub(super) async fn drain_server(
    Shared(state): Shared<Arc<State>>,
    reader: Reader,
    Path(id): Path<ServerId>,
) -> Result<(StatusCode, axum::Json<DrainStatus>)> {
    must_administer(&reader)?;
    let status = status(&state, &id).await?;
    if !status.draining && status.stuck > 0 {
        let named: Vec<String> = status.stuck_files.iter().map(ToString::to_string).collect();
        let detail = format!(
            "{id} holds {} files, and for some of them ({}) there is no other live file server with room where they are to \
             stand: start another one there first",
            status.files,
            named.join(", ")
        );
        return Err(Error::Refused(conflict("too-few-servers", "Too few file servers").detail(detail)));
    }
    turn(&state, &id, true).await?;
    Ok((StatusCode::ACCEPTED, axum::Json(DrainStatus { draining: true, ..status })))
}

/// `DELETE /v1/servers/{id}/drain`: it takes files again.
#[utoipa::path(
    delete,
    path = "/v1/servers/{id}/drain",
    tag = "Servers",
    params(("id" = ServerId, Path, description = "The server")), security(("session" = [])),
    responses((status = 204, description = "It takes files again"))
)]
pub(super) async fn undrain_server(
    Shared(state): Shared<Arc<State>>,
    reader: Reader,
    Path(id): Path<ServerId>,
) -> Result<StatusCode> {
    must_administer(&reader)?;
    status(&state, &id).await?;
    turn(&state, &id, false).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `GET /v1/servers/{id}/drain`: what is left.
#[utoipa::path(
    get,
    path = "/v1/servers/{id}/drain",
    tag = "Servers",
    params(("id" = ServerId, Path, description = "The server")), security(("session" = [])),
    responses((status = 200, description = "What is left", body = DrainStatus))
)]
pub(super) async fn show_drain(
    Shared(state): Shared<Arc<State>>,
    _: Reader,
    Path(id): Path<ServerId>,
) -> Result<axum::Json<DrainStatus>> {
    status(&state, &id).await.map(axum::Json)
}

fn must_administer(reader: &Reader) -> Result<()> {
    if reader.user.role < Role::Admin { Err(Error::Forbidden("only an admin empties a file server")) } else { Ok(()) }
}

async fn status(state: &State, id: &ServerId) -> Result<DrainStatus> {
    let servers = planner::candidates(state).await?;
    let draining = servers.iter().find(|server| server.id == *id).ok_or(Error::NotFound)?.draining;
    let (files, bytes) = state.store.held_by(id).await?;
    // How it would be without this server, and once those that are busy now are done.
    let others = servers.into_iter().map(|server| Candidate {
        draining: server.draining || server.id == *id,
        in_flight: 0,
        ..server
    });
    let others: Vec<Candidate> = others.collect();
    let mut stuck_files = Vec::new();
    for file in state.store.assigned_to(id, SAMPLE).await? {
        if let Some(wanted) = Wanted::of(state, file).await?
            && plan::plan(&wanted.subject(), &others).short > 0
        {
            stuck_files.push(file);
        }
    }
    let stuck = u32::try_from(stuck_files.len())?;
    stuck_files.truncate(NAMED);
    Ok(DrainStatus { server: id.clone(), draining, files, bytes, stuck, stuck_files })
}

async fn turn(state: &State, id: &ServerId, draining: bool) -> Result<()> {
    let known = state.registry().get(id).is_some_and(|server| server.draining == draining);
    if !known {
        let mut write = state.store.write().await?;
        servers::drain(&mut write, id, draining).await?;
        write.commit().await?;
        state.registry_mut().drain(id, draining);
        tracing::info!(server = %id, draining, "emptying was turned");
        state.planner.wake();
    }
    Ok(())
}
