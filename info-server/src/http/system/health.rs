use std::{sync::Arc, time::Duration};

use axum::{extract::State as Shared, http::StatusCode};
use jiff::Timestamp;
use lifecycle::fault_log::FaultLog;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::state::State;

static FAULTS: FaultLog = FaultLog::new("The server is not ready");

/// Longest wait for the database; beyond it this server is not ready.
const DATABASE_TIMEOUT: Duration = Duration::from_secs(2);

/// `GET /livez`: the event loop turns. The time is this server's, which judges all others.
#[utoipa::path(get, path = "/livez", tag = "Operators", security(()),
    responses((status = 200, description = "The event loop turns", body = Object)))]
pub(crate) async fn show_livez() -> axum::Json<Value> {
    axum::Json(json!({ "status": "alive", "time": Timestamp::now() }))
}

/// `GET /readyz`: the database answers and takes writes; the bus and what waits for it are reported, but their state stops nothing.
///
/// `damaged_files` counts published files of which chunks are on no file server any more; the log names them. While the database takes no writes, lists and running downloads go on; `database` says why it does not. It only reads: a caller that asks often must not delay writes.
#[utoipa::path(get, path = "/readyz", tag = "Operators", security(()),
    responses((status = 200, description = "Ready", body = Object), (status = 503, description = "Not ready", body = Object)))]
pub(crate) async fn show_readyz(Shared(state): Shared<Arc<State>>) -> (StatusCode, axum::Json<Value>) {
    let stopping = state.shutdown.finishing().is_cancelled();
    let read = async {
        state.db.check_folder().await?;
        anyhow::Ok((state.db.backlog().await?, state.db.damaged_files().await?))
    };
    let backlog = timeout(DATABASE_TIMEOUT, read).await.unwrap_or_else(|late| Err(anyhow::Error::from(late)));
    if let Err(error) = &backlog {
        FAULTS.failed(format_args!("{error:#}"));
    }
    let fault = state.db.fault();
    let (status, word) = match (&backlog, fault, stopping) {
        (_, _, true) => (StatusCode::SERVICE_UNAVAILABLE, "stopping"),
        (Err(_), ..) | (_, Some(_), _) => (StatusCode::SERVICE_UNAVAILABLE, "not ready"),
        (Ok(_), None, false) => (StatusCode::OK, "ready"),
    };
    let publishing = state.bus.publishing().borrow().clone();
    let bus = format!("{:?}", publishing.phase).to_lowercase();
    let (waiting, oldest, damaged) = match &backlog {
        Ok((backlog, damaged)) => (Some(backlog.events), backlog.oldest, Some(*damaged)),
        Err(_) => (None, None, None),
    };
    let database = match fault {
        Some(fault) => format!("{}: {}", fault.word(), fault.advice()),
        None if backlog.is_ok() => "ok".to_owned(),
        None => "does not answer".to_owned(),
    };
    let body = json!({ "status": word, "database": database, "bus": bus, "bus_error": publishing.error, "bus_warning": publishing.warning, "events_waiting": waiting, "oldest_waiting": oldest, "damaged_files": damaged });
    (status, axum::Json(body))
}
