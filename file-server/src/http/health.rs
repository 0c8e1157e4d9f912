//! `/livez`, `/readyz`, `/metrics`: for the operator and the info-server; nothing about files.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use bus::Phase;
use chunk_store::{BlobError, VolumeState};
use http::{StatusCode, header};
use http_front::observe::OPENMETRICS_MEDIA_TYPE;
use serde::Serialize;
use utoipa::ToSchema;
use wire::server::ServerIdentity;

use crate::{metrics::CurrentValues, state::AppState};

/// Time that the database and the disk have to respond.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// Identifies this process, which shows that its event loop runs.
#[utoipa::path(
    get,
    path = "/livez",
    tag = "Operators",
    security(()),
    responses((status = 200, description = "The server and its process", body = ServerIdentity))
)]
pub(super) async fn livez(State(state): State<Arc<AppState>>) -> Json<ServerIdentity> {
    Json(ServerIdentity { server: state.identity.id.clone(), instance: state.identity.instance })
}

/// The conditions for serving requests.
#[derive(Serialize, ToSchema)]
pub(super) struct Readiness {
    draining: bool,
    database: bool,
    /// The disk answers. One that takes no writes serves what it has.
    disk: bool,
    /// Files are received; otherwise `reason` says why not.
    writes: bool,
    /// The data folder is that of the start.
    folder: bool,
    /// Reason for which this server is not ready, or receives no files.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    /// Another live process has this server's identity.
    #[serde(rename = "usurped")]
    identity_conflict: bool,
    /// Reported only: tokens with a record are accepted without the info-server.
    registered: bool,
    /// Reported only: the log covers events that the broker does not deliver.
    #[serde(rename = "facts")]
    events: bool,
    /// Reason why events do not arrive.
    #[serde(rename = "facts_error", skip_serializing_if = "Option::is_none")]
    events_error: Option<String>,
}

/// Reports whether requests should be sent here.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "Operators",
    security(()),
    responses((status = 200, description = "Ready", body = Readiness), (status = 503, description = "Not ready; `reason` says why", body = Readiness))
)]
pub(super) async fn readyz(State(state): State<Arc<AppState>>) -> Response {
    let draining = state.draining.load(Ordering::Relaxed);
    let database = matches!(tokio::time::timeout(PROBE_TIMEOUT, state.db.ping()).await, Ok(Ok(())));
    let identity_conflict = *state.identity_conflict.borrow();
    let folder = state.blobs.check_folder().await.is_ok();
    let disk = if folder { probe(&state).await } else { Disk::Writes };
    let volume = state.blobs.volume().state();
    let obstacles = [
        (draining, "this server stops"),
        (identity_conflict, "another live process has its identity"),
        (!folder, "its data folder is gone: is its disk mounted?"),
        (!database, "its database does not answer"),
        (disk == Disk::Stalls, "its disk does not respond"),
    ];
    let limits = [
        (disk == Disk::Full || volume == VolumeState::LowSpace, "its disk is full: it serves, and receives nothing"),
        (
            disk == Disk::ReadsOnly || volume == VolumeState::Failing,
            "its disk takes no writes: it serves, and receives nothing",
        ),
    ];
    let first = |causes: &[(bool, &'static str)]| causes.iter().find(|(holds, _)| *holds).map(|(_, reason)| *reason);
    let (obstacle, limit) = (first(&obstacles), first(&limits));
    let subscribed = state.bus.subscribed().borrow().clone();
    let readiness = Readiness {
        draining,
        database,
        disk: disk != Disk::Stalls,
        writes: obstacle.is_none() && limit.is_none(),
        folder,
        reason: obstacle.or(limit),
        identity_conflict,
        registered: *state.registered.borrow(),
        events: subscribed.phase == Phase::Connected,
        events_error: subscribed.error,
    };
    let status = if obstacle.is_none() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(readiness)).into_response()
}

/// State of the disk, as a small write finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Disk {
    Writes,
    Full,
    ReadsOnly,
    Stalls,
}

async fn probe(state: &AppState) -> Disk {
    match state.blobs.volume().probe(PROBE_TIMEOUT).await {
        Ok(()) => Disk::Writes,
        // Descriptors come back, and are no matter of the disk.
        Err(error) if error.is_out_of_descriptors() => Disk::Writes,
        Err(error) if error.is_full() => Disk::Full,
        Err(BlobError::DiskTimeout) => Disk::Stalls,
        Err(_) => Disk::ReadsOnly,
    }
}

/// Returns the metrics for Prometheus.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "Operators",
    security(()),
    responses((status = 200, description = "OpenMetrics 1.0", content_type = "application/openmetrics-text", body = String))
)]
pub(super) async fn metrics(State(state): State<Arc<AppState>>) -> impl IntoResponse {
    let orphaned_files = state.db.count_orphaned_files().await.unwrap_or(0);
    let subscribed = state.bus.subscribed().borrow().clone();
    let values = CurrentValues {
        responses: state.responses.count(),
        registered: *state.registered.borrow(),
        events: subscribed.phase == Phase::Connected,
        events_failure: subscribed.kind,
        tokens: state.tokens.count(),
        volume: state.blobs.volume().state(),
        orphaned_files,
    };
    ([(header::CONTENT_TYPE, OPENMETRICS_MEDIA_TYPE)], state.metrics.show(values))
}
