use std::sync::Arc;

use axum::{
    extract::State as Shared,
    http::{HeaderName, header},
};
use lifecycle::observe::EXPOSITION;

use crate::app::State;

/// `GET /metrics`: for Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "Operators", security(()),
    responses((status = 200, description = "OpenMetrics 1.0", content_type = "application/openmetrics-text", body = String)))]
pub(super) async fn show_metrics(Shared(state): Shared<Arc<State>>) -> ([(HeaderName, &'static str); 1], String) {
    let text = state.metrics.show(&state).await;
    ([(header::CONTENT_TYPE, EXPOSITION)], text.to_string())
}
