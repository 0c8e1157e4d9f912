use std::{sync::Arc, time::Duration};

use axum::{extract::State as Shared, http::StatusCode};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::app::State;

/// How long the database may take to answer before this server counts as not ready.
const PATIENCE: Duration = Duration::from_secs(2);

/// `GET /livez`: the event loop turns.
#[utoipa::path(get, path = "/livez", tag = "Operators", security(()),
    responses((status = 200, description = "It turns", body = Object)))]
pub(super) async fn show_livez() -> axum::Json<Value> {
    axum::Json(json!({ "status": "alive" }))
}

/// `GET /readyz`: the database answers; the bus and what waits for it are reported, but their state stops nothing.
///
/// Reads alone: whoever asks often must not stand in the way of writes.
#[utoipa::path(get, path = "/readyz", tag = "Operators", security(()),
    responses((status = 200, description = "Ready", body = Object), (status = 503, description = "Not ready", body = Object)))]
pub(super) async fn show_readyz(Shared(state): Shared<Arc<State>>) -> (StatusCode, axum::Json<Value>) {
    let stopping = state.shutdown.finishing().is_cancelled();
    let backlog = timeout(PATIENCE, state.store.backlog()).await.map_err(anyhow::Error::from);
    let backlog = backlog.and_then(|backlog| Ok(backlog?));
    if let Err(error) = &backlog {
        tracing::warn!("not ready: {error:#}");
    }
    let (status, word) = match (&backlog, stopping) {
        (_, true) => (StatusCode::SERVICE_UNAVAILABLE, "stopping"),
        (Err(_), false) => (StatusCode::SERVICE_UNAVAILABLE, "not ready"),
        (Ok(_), false) => (StatusCode::OK, "ready"),
    };
    let bus = format!("{:?}", state.bus.publishing().borrow().phase).to_lowercase();
    let (waiting, oldest) = backlog.as_ref().map_or((None, None), |(waiting, oldest)| (Some(*waiting), *oldest));
    let database = if backlog.is_ok() { "ok" } else { "does not answer" };
    let body = json!({ "status": word, "database": database, "bus": bus, "events_waiting": waiting, "oldest_waiting": oldest });
    (status, axum::Json(body))
}
