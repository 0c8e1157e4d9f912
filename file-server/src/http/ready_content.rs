//! Responses to requests for content that need no wait: the token's grant is in memory and the blob is open.

use std::sync::Arc;

use axum::response::Response;
use chunk_store::Outlet;
use http::{Method, header};
use http_front::{
    extract::bearer,
    observe::ReadyRoute,
    ready::{ReadyResponses, RequestHead},
};
use wire::{Digest, FileId};

use super::{
    access::{check_fitness, is_allowed},
    cross_origin_fields,
    get_content::{ContentRequest, serve},
};
use crate::{state::AppState, tokens::permission::RequiredAccess};

/// The route, as the table of routes spells it.
const CONTENT_ROUTE: &str = "/v1/files/{id}/content";

/// Source of the responses. Every rule is the route's own: what does not lead to a response with content is left to the route.
#[derive(Debug, Clone)]
pub(crate) struct ReadyContent {
    state: Arc<AppState>,
    route: ReadyRoute,
}

impl ReadyContent {
    pub(crate) fn new(state: Arc<AppState>) -> Self {
        let route = ReadyRoute::new(state.metrics.requests.clone(), CONTENT_ROUTE);
        Self { state, route }
    }
}

impl ReadyResponses<Outlet> for ReadyContent {
    fn respond(&self, request: RequestHead<'_>, outlet: &Outlet) -> Option<Response> {
        let file = requested_file(request)?;
        let observed = self.route.begin(request.headers)?;
        let mut response = respond(&self.state, file, request, outlet)?;
        self.state.metrics.token_hits.inc();
        self.state.metrics.content_requests.inc();
        self.state.metrics.ready_content_requests.inc();
        response.headers_mut().extend(cross_origin_fields());
        Some(self.route.observe(observed, request.method, response))
    }
}

/// Returns the file whose content a request is for.
fn requested_file(request: RequestHead<'_>) -> Option<FileId> {
    if !matches!(*request.method, Method::GET | Method::HEAD) {
        return None;
    }
    request.uri.path().strip_prefix("/v1/files/")?.strip_suffix("/content")?.parse().ok()
}

/// Returns the response with content, if it needs no wait.
fn respond(state: &AppState, file: FileId, request: RequestHead<'_>, outlet: &Outlet) -> Option<Response> {
    check_fitness(state).ok()?;
    // The hash of a token in memory is that of a well-formed one: neither its checksum nor its kind is looked at again.
    let hash = Digest::of(bearer(request.headers)?.as_bytes());
    // Before the check, so that no revocation can come between the two.
    let response = state.responses.enter(hash);
    let grant = state.tokens.find_in_memory(&hash)?;
    if !is_allowed(state, &grant, file, RequiredAccess::Read) {
        return None;
    }
    let blob = state.blobs.find_open(file)?;
    if !blob.is_in_place().unwrap_or(false) {
        return None;
    }
    let RequestHead { method, headers, .. } = request;
    let served = serve(state, ContentRequest { method, headers, outlet: outlet.clone(), response }, blob).ok()?;
    // A document about the request is made by the route.
    let has_content = served.status().is_success() && served.headers().contains_key(header::ETAG);
    has_content.then_some(served)
}
