//! Responses that are made at once, ahead of the router.
//!
//! The routes of most requests pass several layers and wait for something. For a request whose response needs no wait, a server
//! makes it here, from the same functions as the route's handler; everything else, and every error, is left to the router.

use axum::{
    http::{HeaderMap, Method, Uri},
    response::Response,
};

/// Head of a request that the request filter accepted.
#[derive(Debug, Clone, Copy)]
pub struct RequestHead<'a> {
    /// The method.
    pub method: &'a Method,
    /// The target.
    pub uri: &'a Uri,
    /// The header fields.
    pub headers: &'a HeaderMap,
}

/// Source of responses that bypass the router, on connections with the extension `E`.
pub trait ReadyResponses<E>: Clone + Send + Sync + 'static {
    /// Returns the response to a request, or `None` if the router must answer it. Nothing about the request was counted or
    /// changed in that case.
    fn respond(&self, request: RequestHead<'_>, extension: &E) -> Option<Response>;
}

/// Leaves all requests to the router.
impl<E> ReadyResponses<E> for () {
    fn respond(&self, _: RequestHead<'_>, _: &E) -> Option<Response> {
        None
    }
}
