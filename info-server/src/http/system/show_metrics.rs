use std::sync::Arc;

use axum::{
    extract::State as Shared,
    http::{HeaderName, header},
};
use http_front::observe::OPENMETRICS_MEDIA_TYPE;

use crate::{metrics::collect, state::State};

/// `GET /metrics`: for Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "Operators", security(()),
    responses((status = 200, description = "OpenMetrics 1.0", content_type = "application/openmetrics-text", body = String)))]
pub(crate) async fn show_metrics(Shared(state): Shared<Arc<State>>) -> ([(HeaderName, &'static str); 1], String) {
    let text = collect::expose(&state).await;
    ([(header::CONTENT_TYPE, OPENMETRICS_MEDIA_TYPE)], text.to_string())
}
