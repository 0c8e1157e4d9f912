//! The route table.

use std::sync::Arc;

use axum::{Router, middleware::from_fn_with_state};
use http::{HeaderName, Method, header};
use lifecycle::{
    api::{About, Api},
    observe::observed,
};
use tower_http::cors::{Any, CorsLayer};
use utoipa_axum::{router::UtoipaMethodRouterExt as _, routes};

use crate::server::Server;

mod access;
mod get_content;
mod health;
mod list_chunks;
mod put_chunk;

const ABOUT: About = About {
    title: "DDM file server",
    description: "Serves the verified chunks of files to whoever holds a token for them, and takes uploads. Errors are problem \
                  documents (RFC 9457). Tokens travel in `Authorization: Bearer` and nowhere else.",
    version: env!("CARGO_PKG_VERSION"),
};

/// The table of routes.
fn api() -> Api<Arc<Server>> {
    // A chunk's body is bounded by its length, which the handler knows.
    Api::new(ABOUT, None)
        .bearer("download", "ddmd_…", "The right to one file, from the info-server's `GET /v1/files/{id}`")
        .bearer("upload", "ddmu_…", "The right to write one file, from the info-server's `POST /v1/files`")
        // GET and HEAD are one handler: they must not differ.
        // The preflight is answered by the layer; without its own handler its method would be refused first.
        .routes(routes!(get_content::get_content).map(|content| content.options(async || ()).layer(cors())))
        .routes(routes!(list_chunks::list_chunks))
        .routes(routes!(put_chunk::put_chunk))
        .routes(routes!(health::livez))
        .routes(routes!(health::readyz))
        .routes(routes!(health::metrics))
}

/// Everything this server answers.
pub(crate) fn router(server: Arc<Server>) -> Router {
    let requests = server.metrics.requests.clone();
    let only_one = from_fn_with_state(server.clone(), access::only_one);
    observed(api().finish().0.layer(only_one).with_state(server), requests)
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
            HeaderName::from_static(wire::trace::HEADER),
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
