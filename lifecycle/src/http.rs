//! What every listener answers with when something goes wrong, and extractors that do the same.

use std::time::Duration;

use axum::{
    Router,
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Request},
    http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use http_body::Body as _;
use serde::de::DeserializeOwned;
use tokio::time::timeout;
use wire::{Problem, problem::MEDIA_TYPE};

mod object;

use object::Unread;

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
        if !is_json(request.headers()) {
            let problem = Problem::new(415, "media-type", "The body must be application/json");
            return Err(Refusal(problem.detail("send it with Content-Type: application/json")));
        }
        match timeout(BODY, Bytes::from_request(request, state)).await {
            Ok(Ok(bytes)) => object::read(&bytes).map(Self).map_err(unread),
            Ok(Err(rejection)) => Err(broken(rejection.status())),
            Err(_) => Err(Refusal(Problem::new(408, "timeout", "The body did not come in time"))),
        }
    }
}

/// `application/json`, or a media type built on it (RFC 6839).
fn is_json(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return false };
    let essence = value.to_str().ok().and_then(|value| value.split(';').next()).unwrap_or_default();
    let essence = essence.trim().to_ascii_lowercase();
    essence.strip_prefix("application/").is_some_and(|kind| kind == "json" || kind.ends_with("+json"))
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

fn unread(unread: Unread) -> Refusal {
    Refusal(match unread {
        Unread::Syntax(detail) => Problem::new(400, "bad-request", "The body is not JSON").detail(detail),
        Unread::Shape(detail) => {
            Problem::new(422, "invalid-body", "The body is not what this route takes").detail(detail)
        }
    })
}

fn broken(status: StatusCode) -> Refusal {
    Refusal(if status == StatusCode::PAYLOAD_TOO_LARGE {
        Problem::new(413, "too-large", "The body is too large").detail("send less at a time")
    } else {
        Problem::new(400, "bad-request", "The body broke off").detail("its framing is wrong, or it stopped coming")
    })
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

/// A number as it stands in a path. It has one spelling there: no sign, no needless zero.
pub fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|number: &u32| number.to_string() == text)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_one_spelling() {
        for (text, expected) in
            [("0", Some(0)), ("17", Some(17)), ("4294967295", Some(u32::MAX)), ("4294967296", None), ("", None)]
        {
            assert_eq!(number(text), expected, "{text}");
        }
        for text in ["00", "+0", "-0", "01", " 1", "1 ", "1.0", "0x1", "1e3", "١"] {
            assert_eq!(number(text), None, "{text}");
        }
    }

    #[test]
    fn only_json_is_json() {
        for (value, expected) in [
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("application/problem+json", true),
            ("text/json", false),
            ("text/plain", false),
            ("application/jsonp", false),
            ("", false),
        ] {
            let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(value))]);
            assert_eq!(is_json(&headers), expected, "{value}");
        }
        assert!(!is_json(&HeaderMap::new()));
    }
}
