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
use serde::Serialize;
use wire::server::Identity;

use crate::{blobs::blocking, server::Server};

/// How long the database and the disk may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// The event loop runs, and this is who it is.
pub(super) async fn livez(State(server): State<Arc<Server>>) -> Json<Identity> {
    Json(Identity { server: server.identity.id.clone(), instance: server.identity.instance })
}

/// What must be well for this server to be of use.
#[derive(Serialize)]
pub(super) struct Readiness {
    draining: bool,
    database: bool,
    disk: bool,
    /// Reported only: known tokens are honoured without the info-server.
    registered: bool,
    /// Reported only: the log covers what the broker does not bring.
    facts: bool,
}

/// Whether requests should be sent here.
pub(super) async fn readyz(State(server): State<Arc<Server>>) -> Response {
    let readiness = Readiness {
        draining: server.draining.load(Ordering::Relaxed),
        database: matches!(tokio::time::timeout(PATIENCE, server.store.ping()).await, Ok(Ok(()))),
        disk: disk_takes_writes(&server).await,
        registered: *server.registered.borrow(),
        facts: server.bus.subscribed().borrow().phase == Phase::Connected,
    };
    let ready = !readiness.draining && readiness.database && readiness.disk;
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(readiness)).into_response()
}

async fn disk_takes_writes(server: &Server) -> bool {
    let probe = async {
        let turn = server.probing.clone().lock_owned().await;
        let folder = server.blobs.folder().clone();
        blocking(move || {
            let probed = folder.probe();
            drop(turn);
            probed
        })
        .await
    };
    matches!(tokio::time::timeout(PATIENCE, probe).await, Ok(Ok(())))
}

/// Counters in the text form of Prometheus.
pub(super) async fn metrics(State(server): State<Arc<Server>>) -> impl IntoResponse {
    let gauges = [
        ("bodies_running", "Bodies being sent", server.running.count()),
        ("registered", "Whether the last heartbeat was accepted", u64::from(*server.registered.borrow())),
    ];
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], server.metrics.render(&gauges))
}
