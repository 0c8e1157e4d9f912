//! The routes.

use std::sync::Arc;

use axum::{Router, middleware::from_fn_with_state};
use http::{HeaderName, HeaderValue, Method, header};
use http_front::{
    observe::observe_requests,
    openapi::{Api, ApiInfo},
};
use tower_http::cors::{Any, CorsLayer};
use utoipa_axum::{router::UtoipaMethodRouterExt as _, routes};

pub(crate) use self::ready_content::ReadyContent;
use crate::state::AppState;

mod access;
mod get_content;
mod health;
mod list_chunks;
mod put_chunk;
mod ready_content;
mod verify_chunk;

const ABOUT: ApiInfo = ApiInfo {
    title: "DDM file server",
    description: "Serves the verified chunks of files to holders of a token for them, and receives uploads. Errors are problem \
                  documents (RFC 9457). Tokens travel in `Authorization: Bearer` and nowhere else.",
    version: env!("CARGO_PKG_VERSION"),
};

/// Returns the route table.
fn api() -> Api<Arc<AppState>> {
    // A chunk's body is bounded by its length, which the handler checks.
    Api::new(ABOUT, None)
        .bearer_scheme("download", "ddmd_…", "The right to one file, from the info-server's `GET /v1/files/{id}`")
        .bearer_scheme("upload", "ddmu_…", "The right to write one file, from the info-server's `POST /v1/files`")
        // GET and HEAD are one handler: they must not differ.
        // The preflight is answered by the layer; without its own handler its method would be refused first.
        .routes(routes!(get_content::get_content).map(|content| content.options(async || ()).layer(cors())))
        .routes(routes!(list_chunks::list_chunks))
        .routes(routes!(put_chunk::put_chunk))
        .routes(routes!(verify_chunk::verify_chunk))
        .routes(routes!(health::livez))
        .routes(routes!(health::readyz))
        .routes(routes!(health::metrics))
}

/// Returns the service that answers every request.
pub(crate) fn router(state: Arc<AppState>) -> Router {
    let requests = state.metrics.requests.clone();
    let check = from_fn_with_state(state.clone(), access::refuse_while_unfit);
    observe_requests(api().finish().0.layer(check).with_state(state), requests)
}

/// Returns the fields that [`cors`] adds to every response with content, for those that bypass it.
fn cross_origin_fields() -> [(HeaderName, HeaderValue); 2] {
    let exposed = HeaderValue::from_static("accept-ranges,content-length,content-range,etag,repr-digest");
    let any = HeaderValue::from_static("*");
    [(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed), (header::ACCESS_CONTROL_ALLOW_ORIGIN, any)]
}

/// Lets pages of any origin read content: the token protects it, and no browser sends that by itself.
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use http_front::openapi::dangling_references;

    use super::*;

    #[test]
    fn whatever_the_description_refers_to_is_in_it() {
        assert_eq!(dangling_references(&api().finish().1), BTreeSet::new());
    }
}
