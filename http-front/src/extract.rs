//! Extractors of path, query, JSON body and bearer token, which reject a request with a problem document.

use std::time::Duration;

use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Request},
    http::{HeaderMap, StatusCode, header, request::Parts},
};
use http_body::Body as _;
use serde::de::DeserializeOwned;
use tokio::time::timeout;
use wire::Problem;

use crate::{
    problem_response::{ProblemResponse, not_found},
    strict_json::{self, JsonError},
};

/// Time for a whole JSON body, which is small.
const JSON_BODY_TIMEOUT: Duration = Duration::from_secs(15);

/// Extractor of a JSON body: one object, in which each key occurs once. Rejects with 400, 408, 413, 415 or 422.
#[derive(Debug)]
pub struct Json<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = ProblemResponse;

    async fn from_request(request: Request, state: &S) -> Result<Self, ProblemResponse> {
        if !is_json(request.headers()) {
            let problem = Problem::new(415, "media-type", "Unsupported media type");
            return Err(ProblemResponse(problem.detail("send the body as JSON, with Content-Type: application/json")));
        }
        match timeout(JSON_BODY_TIMEOUT, Bytes::from_request(request, state)).await {
            Ok(Ok(bytes)) => strict_json::parse(&bytes).map(Self).map_err(invalid_json),
            Ok(Err(rejection)) => Err(incomplete_body(rejection.status())),
            Err(_) => Err(ProblemResponse(
                Problem::new(408, "timeout", "Request timeout").detail("the request body did not arrive in time"),
            )),
        }
    }
}

/// Returns true for `application/json` and for media types with the suffix `+json` (RFC 6839).
fn is_json(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return false };
    let essence = value.to_str().ok().and_then(|value| value.split(';').next()).unwrap_or_default();
    let essence = essence.trim().to_ascii_lowercase();
    essence.strip_prefix("application/").is_some_and(|kind| kind == "json" || kind.ends_with("+json"))
}

/// Extractor of a JSON body that may be left out, which gives the default value.
#[derive(Debug)]
pub struct OptionalJson<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Default> FromRequest<S> for OptionalJson<T> {
    type Rejection = ProblemResponse;

    async fn from_request(request: Request, state: &S) -> Result<Self, ProblemResponse> {
        if request.body().is_end_stream() {
            return Ok(Self(T::default()));
        }
        Json::from_request(request, state).await.map(|Json(value)| Self(value))
    }
}

fn invalid_json(error: JsonError) -> ProblemResponse {
    match error {
        JsonError::Syntax(detail) => ProblemResponse::bad_request(format!("the body is not valid JSON: {detail}")),
        JsonError::Schema(detail) => ProblemResponse(Problem::new(422, "invalid-body", "Invalid body").detail(detail)),
    }
}

fn incomplete_body(status: StatusCode) -> ProblemResponse {
    ProblemResponse(if status == StatusCode::PAYLOAD_TOO_LARGE {
        Problem::new(413, "too-large", "Content too large").detail("send less in one request")
    } else {
        Problem::new(400, "bad-request", "Bad request")
            .detail("the body is incomplete: its framing is wrong, or it ended early")
    })
}

/// Extractor of path parameters. A parameter that cannot be parsed names nothing that exists, so it gives 404.
#[derive(Debug)]
pub struct Path<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = ProblemResponse;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ProblemResponse> {
        match axum::extract::Path::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(value)) => Ok(Self(value)),
            Err(_) => Err(not_found()),
        }
    }
}

/// Parses a number from a path. It has one spelling there: no sign, no leading zero.
pub fn path_number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|number: &u32| number.to_string() == text)
}

/// Extractor of query parameters. Rejects with 400.
#[derive(Debug)]
pub struct Query<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = ProblemResponse;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ProblemResponse> {
        match axum::extract::Query::from_request_parts(parts, state).await {
            Ok(axum::extract::Query(value)) => Ok(Self(value)),
            Err(rejection) => Err(ProblemResponse::bad_request(rejection.body_text())),
        }
    }
}

/// Returns the credentials of the `Authorization: Bearer` header (RFC 6750 §2.1), the only place where tokens are accepted.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, credentials) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| credentials.trim())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn a_number_has_one_spelling() {
        for (text, expected) in
            [("0", Some(0)), ("17", Some(17)), ("4294967295", Some(u32::MAX)), ("4294967296", None), ("", None)]
        {
            assert_eq!(path_number(text), expected, "{text}");
        }
        for text in ["00", "+0", "-0", "01", " 1", "1 ", "1.0", "0x1", "1e3", "١"] {
            assert_eq!(path_number(text), None, "{text}");
        }
    }

    #[test]
    fn only_json_media_types_are_accepted() {
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
