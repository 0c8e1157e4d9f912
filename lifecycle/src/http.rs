//! What every listener answers with when something goes wrong, and extractors that do the same.

use std::time::Duration;

use axum::{
    Router,
    extract::{FromRequest, FromRequestParts, Request, rejection::JsonRejection},
    http::{HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use http_body::Body as _;
use serde::de::DeserializeOwned;
use tokio::time::timeout;
use wire::{Problem, problem::MEDIA_TYPE};

/// A problem document as an answer.
#[derive(Debug, Clone)]
pub struct Refusal(pub Problem);

impl Refusal {
    /// A request that cannot be understood: what is wrong with it and what would be right.
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self(Problem::new(400, "bad-request", "The request cannot be understood").detail(detail))
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self.0).unwrap_or_default();
        let mut response = (status, body).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        response
    }
}

/// How long the whole of a JSON body may take: it is small.
const BODY: Duration = Duration::from_secs(15);

/// A JSON body; what cannot be read is refused with a problem document that says why.
#[derive(Debug)]
pub struct Json<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        match timeout(BODY, axum::Json::from_request(request, state)).await {
            Ok(Ok(axum::Json(value))) => Ok(Self(value)),
            Ok(Err(rejection)) => Err(refused_body(&rejection)),
            Err(_) => Err(Refusal(Problem::new(408, "timeout", "The body did not come in time"))),
        }
    }
}

/// A JSON body that may be left out; then it is the default.
#[derive(Debug)]
pub struct OptionalJson<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Default> FromRequest<S> for OptionalJson<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        if request.body().is_end_stream() {
            return Ok(Self(T::default()));
        }
        Json::from_request(request, state).await.map(|Json(value)| Self(value))
    }
}

fn refused_body(rejection: &JsonRejection) -> Refusal {
    let (word, title) = match rejection.status() {
        StatusCode::UNSUPPORTED_MEDIA_TYPE => ("media-type", "The body must be application/json"),
        StatusCode::PAYLOAD_TOO_LARGE => ("too-large", "The body is too large"),
        StatusCode::UNPROCESSABLE_ENTITY => ("invalid-body", "The body is not what this route takes"),
        _ => ("bad-request", "The body is not JSON"),
    };
    Refusal(Problem::new(rejection.status().as_u16(), word, title).detail(rejection.body_text()))
}

/// Path parameters; what cannot be read cannot exist, so it is 404.
#[derive(Debug)]
pub struct Path<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        match axum::extract::Path::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(value)) => Ok(Self(value)),
            Err(_) => Err(not_found()),
        }
    }
}

/// Query parameters.
#[derive(Debug)]
pub struct Query<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        match axum::extract::Query::from_request_parts(parts, state).await {
            Ok(axum::extract::Query(value)) => Ok(Self(value)),
            Err(rejection) => Err(Refusal::bad_request(rejection.body_text())),
        }
    }
}

/// Nothing is known under this address.
pub fn not_found() -> Refusal {
    Refusal(Problem::new(404, "not-found", "There is nothing here"))
}

/// The credentials of an `Authorization: Bearer` header (RFC 6750 §2.1); tokens are taken from nowhere else.
pub fn bearer(parts: &Parts) -> Option<&str> {
    let value = parts.headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, credentials) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| credentials.trim())
}

/// No credentials, or none that mean anything (RFC 9110 §11.6.1).
pub fn unauthorized(detail: impl Into<String>) -> Response {
    let problem = Problem::new(401, "unauthorized", "A valid token is needed").detail(detail);
    let mut response = Refusal(problem).into_response();
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

/// Answers what no route takes with problem documents.
pub fn with_fallbacks<S: Clone + Send + Sync + 'static>(router: Router<S>) -> Router<S> {
    router.fallback(async || not_found()).method_not_allowed_fallback(async || {
        Refusal(Problem::new(405, "method-not-allowed", "This address does not take this method"))
    })
}
