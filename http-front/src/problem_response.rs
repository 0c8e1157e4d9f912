//! Errors as responses: problem documents (RFC 9457) on every listener.

use axum::{
    Router,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use wire::{Problem, problem::MEDIA_TYPE};

/// Response whose body is a problem document.
#[derive(Debug, Clone)]
pub struct ProblemResponse(pub Problem);

impl ProblemResponse {
    /// Returns 400 with `detail`, which says what is wrong with the request and what would be right.
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self(Problem::new(400, "bad-request", "Bad request").detail(detail))
    }
}

impl IntoResponse for ProblemResponse {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self.0).unwrap_or_default();
        let mut response = (status, body).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        response
    }
}

/// Returns 404 for an address at which there is nothing.
pub fn not_found() -> ProblemResponse {
    ProblemResponse(Problem::new(404, "not-found", "Not found"))
}

/// Returns 401 for a request without valid credentials, with a challenge (RFC 9110 §11.6.1).
pub fn unauthorized(detail: impl Into<String>) -> Response {
    let problem = Problem::new(401, "unauthorized", "Unauthorized").detail(detail);
    let mut response = ProblemResponse(problem).into_response();
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

/// Makes `router` answer with a problem document where it has no route or the route does not have the method.
pub fn with_fallbacks<S: Clone + Send + Sync + 'static>(router: Router<S>) -> Router<S> {
    router.fallback(async || not_found()).method_not_allowed_fallback(async || {
        ProblemResponse(Problem::new(405, "method-not-allowed", "Method not allowed"))
    })
}
