use std::{collections::BTreeSet, sync::Arc};

use axum::{
    extract::State as Shared,
    http::{HeaderName, HeaderValue, Method, header},
};
use lifecycle::http::{Path, Query};
use serde::Deserialize;
use url::Url;
use wire::{
    FileId, Problem, Zone,
    catalog::{FileDetails, FileState, Location},
    server::ServerInfo,
};

use super::{create_token, list_files::summary};
use crate::{
    app::State,
    caller::Reader,
    error::{Error, Result, invalid},
    placement,
    probe::address,
    store::{files::File, replicas::Replica},
};

#[derive(Deserialize)]
pub(super) struct Asked {
    /// `false`: look, but take no token.
    grant: Option<bool>,
    /// Where the asker stands; sources there come first.
    zone: Option<String>,
}

const NO_STORE: [(HeaderName, HeaderValue); 1] = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];

/// `GET /v1/files/{id}`: the details query. Issues one token, committed with its event; never waits for the broker.
pub(super) async fn show_file(
    Shared(state): Shared<Arc<State>>,
    reader: Reader,
    Path(id): Path<FileId>,
    Query(asked): Query<Asked>,
    method: Method,
) -> Result<([(HeaderName, HeaderValue); 1], axum::Json<FileDetails>)> {
    let zone = asked.zone.as_deref().filter(|zone| !zone.is_empty()).map(str::parse::<Zone>).transpose();
    let zone = zone.map_err(|error| invalid(error.to_string()))?;
    let file = existing(&state, id).await?;
    let replicas = state.store.replicas(id).await?;
    let locations = locations(&file, &replicas, state.live(), zone.as_ref())?;
    let granting = method == Method::GET && asked.grant != Some(false) && file.state == FileState::Available;
    let download = if granting {
        let lifetime = state.config.access.download_lifetime;
        Some(create_token::issue_download(&state, reader.user, id, lifetime, None).await?)
    } else {
        None
    };
    let whole = file.layout.all();
    let live_replicas = locations.iter().filter(|location| location.runs == whole).count();
    let root = file.content.map(|content| content.root);
    let summary = summary(file, u32::try_from(live_replicas)?);
    Ok((NO_STORE, axum::Json(FileDetails { summary, root, locations, download })))
}

/// The entry, unless it is unknown or going away.
pub(super) async fn existing(state: &State, id: FileId) -> Result<File> {
    let file = state.store.file(id).await?.filter(|file| file.state != FileState::Deleting);
    file.ok_or_else(|| {
        Error::Refused(Problem::new(404, "no-such-file", "There is no such file").detail(id.to_string()))
    })
}

/// Live servers that hold something of a committed file, best first.
fn locations(file: &File, replicas: &[Replica], live: Vec<ServerInfo>, zone: Option<&Zone>) -> Result<Vec<Location>> {
    let Some(content) = file.content else { return Ok(Vec::new()) };
    let held = |server: &ServerInfo| replicas.iter().find(|replica| replica.server == server.id);
    let sound = |replica: &Replica| replica.root.is_none_or(|root| root == content.root);
    let useful = |replica: &Replica| !replica.runs.is_empty() || replica.root.is_some();
    let mut servers: Vec<ServerInfo> =
        live.into_iter().filter(|server| held(server).is_some_and(|held| sound(held) && useful(held))).collect();
    placement::best_first(&mut servers, zone);
    let mut locations = Vec::with_capacity(servers.len());
    for server in servers {
        let runs = held(&server).map(|replica| replica.runs.clone()).unwrap_or_default();
        let url: Url = address(&server.url, &format!("v1/files/{}/content", file.id)).parse()?;
        locations.push(Location { server: server.id, zone: server.zone, url, runs });
    }
    Ok(locations)
}

/// The zones that hold something of a file and must hear of its tokens, whether or not their servers live now.
pub(super) async fn holding_zones(state: &State, id: FileId) -> Result<Vec<Zone>> {
    let replicas = state.store.replicas(id).await?;
    let registry = state.registry();
    let zones: BTreeSet<Zone> =
        replicas.iter().filter_map(|replica| registry.get(&replica.server)).map(|server| server.zone.clone()).collect();
    Ok(zones.into_iter().collect())
}
