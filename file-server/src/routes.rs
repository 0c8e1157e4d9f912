//! The route table.

use std::sync::Arc;

use axum::{
    Router,
    extract::DefaultBodyLimit,
    routing::{get, put},
};
use http::{Method, header};
use lifecycle::http::with_fallbacks;
use tower_http::cors::{Any, CorsLayer};

use crate::server::Server;

mod access;
mod get_content;
mod health;
mod list_chunks;
mod put_chunk;

/// Everything this server answers.
pub(crate) fn router(server: Arc<Server>) -> Router {
    let content = Router::new()
        // GET and HEAD are one handler: they must not differ.
        // The preflight is answered by the layer; without this line its method would be refused first.
        .route("/v1/files/{id}/content", get(get_content::get_content).options(async || ()))
        .layer(cors());
    let chunks = Router::new()
        .route("/v1/files/{id}/chunks", get(list_chunks::list_chunks))
        .route("/v1/files/{id}/chunks/{n}", put(put_chunk::put_chunk));
    let operator = Router::new()
        .route("/livez", get(health::livez))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(health::metrics));
    // A chunk's body is bounded by its length, which the handler knows.
    with_fallbacks(content.merge(chunks).merge(operator)).layer(DefaultBodyLimit::disable()).with_state(server)
}

/// Pages of any origin may read content: the token is what protects it, and it is sent by no browser unasked.
fn cors() -> CorsLayer {
    CorsLayer::new()
        .allow_origin(Any)
        .allow_methods([Method::GET, Method::HEAD])
        .allow_headers([
            header::AUTHORIZATION,
            header::RANGE,
            header::IF_RANGE,
            header::IF_MATCH,
            header::IF_NONE_MATCH,
        ])
        .expose_headers([
            header::ACCEPT_RANGES,
            header::CONTENT_LENGTH,
            header::CONTENT_RANGE,
            header::ETAG,
            get_content::REPR_DIGEST,
        ])
        .max_age(std::time::Duration::from_secs(3600))
}
