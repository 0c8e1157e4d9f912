use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

use axum::{
    extract::State as Shared,
    http::{HeaderName, HeaderValue, Method, header},
};
use lifecycle::http::{Path, Query};
use serde::Deserialize;
use utoipa::IntoParams;
use wire::{
    FileId, Zone,
    catalog::{FileDetails, Location},
};

use crate::{
    app::State,
    caller::Downloader,
    catalogue::summary,
    downloads,
    error::{Result, invalid},
    replication::standing::{Asker, Standing},
};

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Asked {
    /// `false`: look, but take no token.
    grant: Option<bool>,
    /// Where the asker stands; sources there come first.
    #[param(pattern = "^[a-z0-9-]{0,63}$")]
    zone: Option<String>,
}

const NO_STORE: [(HeaderName, HeaderValue); 1] = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];

/// `GET /v1/files/{id}`: the details query. Issues one token, committed with its event; never waits for the broker.
#[utoipa::path(
    get,
    path = "/v1/files/{id}",
    tag = "Files",
    params(("id" = FileId, Path, description = "The file"), Asked), security(("session" = []), ("server" = [])),
    responses((status = 200, description = "Where it stands, and a token", body = FileDetails))
)]
pub(super) async fn show_file(
    Shared(state): Shared<Arc<State>>,
    caller: Downloader,
    Path(id): Path<FileId>,
    Query(asked): Query<Asked>,
    method: Method,
) -> Result<([(HeaderName, HeaderValue); 1], axum::Json<FileDetails>)> {
    let zone = asked.zone.as_deref().filter(|zone| !zone.is_empty()).map(str::parse::<Zone>).transpose();
    let zone = zone.map_err(|error| invalid(error.to_string()))?;
    let file = caller.file(&state, id).await?;
    let standing = Standing::of_entry(&state, &file).await?;
    let root = standing.root();
    let holder = caller.holder(&standing)?;
    let asker = match &caller {
        Downloader::User(reader) => Asker::Person(zone.as_ref().or(reader.zone.as_ref())),
        Downloader::Server(server) => Asker::Server(server),
    };
    let locations = standing.locations(asker, &state.costs)?;
    let pull_limits = begin_pull(&state, &caller, id, &locations);
    let granting = method == Method::GET && asked.grant != Some(false) && standing.is_offered();
    let download = if granting {
        let lifetime = state.config.access.download_lifetime;
        Some(downloads::issue(&state, &holder, &standing, lifetime, None).await?)
    } else {
        None
    };
    let summary = summary(file, u32::try_from(standing.complete())?);
    Ok((NO_STORE, axum::Json(FileDetails { summary, root, locations, download, pull_limits })))
}

/// A file server that is sent to other zones shares the links to them with the others that are; its shares.
fn begin_pull(state: &State, caller: &Downloader, file: FileId, locations: &[Location]) -> BTreeMap<Zone, u64> {
    let Downloader::Server(server) = caller else { return BTreeMap::new() };
    let abroad: BTreeSet<Zone> =
        locations.iter().filter(|location| location.cost > 0).map(|location| location.zone.clone()).collect();
    let zone = state.registry().get(server).map(|server| server.zone.clone());
    let Some(zone) = zone.filter(|_| !abroad.is_empty()) else { return BTreeMap::new() };
    state.pulls().begin((server, &zone), file, &abroad, Instant::now())
}
