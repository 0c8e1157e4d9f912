use std::sync::Arc;

use axum::{extract::State as Shared, http::StatusCode};
use serde_json::{Value, json};

use crate::app::State;

/// `GET /livez`: the event loop turns.
pub(super) async fn show_livez() -> axum::Json<Value> {
    axum::Json(json!({ "status": "alive" }))
}

/// `GET /readyz`: the database can be written; the bus is reported, but its loss stops nothing.
pub(super) async fn show_readyz(Shared(state): Shared<Arc<State>>) -> (StatusCode, axum::Json<Value>) {
    let stopping = state.shutdown.finishing().is_cancelled();
    let database = match state.store.check().await {
        Ok(()) => "ok".to_owned(),
        Err(error) => {
            tracing::warn!("not ready: {error}");
            "cannot be written".to_owned()
        }
    };
    let ready = database == "ok" && !stopping;
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let bus = state.bus.publishing().borrow().phase;
    let word = if stopping {
        "stopping"
    } else if ready {
        "ready"
    } else {
        "not ready"
    };
    (status, axum::Json(json!({ "status": word, "database": database, "bus": format!("{bus:?}").to_lowercase() })))
}
