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
use http::{StatusCode, header};
use lifecycle::observe::EXPOSITION;
use serde::Serialize;
use utoipa::ToSchema;
use wire::server::Identity;

use crate::{metrics::Present, server::Server};

/// How long the database and the disk may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// The event loop runs, and this is who it is.
#[utoipa::path(
    get,
    path = "/livez",
    tag = "Operators",
    security(()),
    responses((status = 200, description = "Who this is", body = Identity))
)]
pub(super) async fn livez(State(server): State<Arc<Server>>) -> Json<Identity> {
    Json(Identity { server: server.identity.id.clone(), instance: server.identity.instance })
}

/// What must be well for this server to be of use.
#[derive(Serialize, ToSchema)]
pub(super) struct Readiness {
    draining: bool,
    database: bool,
    disk: bool,
    /// Another live process has this server's identity.
    usurped: bool,
    /// Reported only: known tokens are honoured without the info-server.
    registered: bool,
    /// Reported only: the log covers what the broker does not bring.
    facts: bool,
}

/// Whether requests should be sent here.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "Operators",
    security(()),
    responses((status = 200, description = "Ready", body = Readiness), (status = 503, description = "Not ready; `draining`, `database` or `disk` says why", body = Readiness))
)]
pub(super) async fn readyz(State(server): State<Arc<Server>>) -> Response {
    let readiness = Readiness {
        draining: server.draining.load(Ordering::Relaxed),
        database: matches!(tokio::time::timeout(PATIENCE, server.store.ping()).await, Ok(Ok(()))),
        disk: server.blobs.probe(PATIENCE).await.is_ok(),
        usurped: *server.usurped.borrow(),
        registered: *server.registered.borrow(),
        facts: server.bus.subscribed().borrow().phase == Phase::Connected,
    };
    let ready = !readiness.draining && !readiness.usurped && readiness.database && readiness.disk;
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(readiness)).into_response()
}

/// For Prometheus.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "Operators",
    security(()),
    responses((status = 200, description = "OpenMetrics 1.0", content_type = "application/openmetrics-text", body = String))
)]
pub(super) async fn metrics(State(server): State<Arc<Server>>) -> impl IntoResponse {
    let unknown_files = server.store.unknown_files().await.unwrap_or(0);
    let present = Present {
        bodies: server.running.count(),
        registered: *server.registered.borrow(),
        facts: server.bus.subscribed().borrow().phase == Phase::Connected,
        tokens: server.tokens.cached(),
        volume: *server.blobs.volume.borrow(),
        unknown_files,
    };
    ([(header::CONTENT_TYPE, EXPOSITION)], server.metrics.show(present))
}
