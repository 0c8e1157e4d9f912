//! `GET` and `HEAD /v1/files/{id}/content`.

use std::{ops::Range, sync::Arc};

use axum::{
    Extension,
    body::Body,
    extract::{Request, State},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use lifecycle::{
    api::{NotHeld, Precondition, Unsatisfiable},
    http::{Path, Refusal},
};
use utoipa::IntoParams;
use wire::{Problem, range::ContentRange};

use super::access::Claim;
use crate::{
    answer::{Conditions, Outcome, Representation, decide},
    blobs::{Blob, BlobError, RangeBody, Segment, in_time},
    error::Error,
    running,
    sendfile::Outlet,
    server::Server,
    tokens::Need,
};

/// The digest of the whole representation (RFC 9530 §3).
pub(super) const REPR_DIGEST: HeaderName = HeaderName::from_static("repr-digest");

const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");
/// Content is for the token's holder alone, and bytes must arrive as they are.
const CACHE: HeaderValue = HeaderValue::from_static("private, no-store, no-transform");

/// What a request for content may carry.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "it is written down for readers; the fields are read by `Fields`")]
pub(super) struct Conditional {
    /// The bytes that are wanted (RFC 9110 §14.2), up to 100 ranges.
    range: Option<String>,
    /// Only if the file is one of these.
    #[param(rename = "if-match")]
    if_match: Option<String>,
    /// Only if the file is none of these.
    #[param(rename = "if-none-match")]
    if_none_match: Option<String>,
    /// The range only if the file is this one, else all of it.
    #[param(rename = "if-range")]
    if_range: Option<String>,
}

/// Serves the bytes of a file that are here.
#[utoipa::path(
    method(get, head),
    path = "/v1/files/{id}/content",
    tag = "Content",
    params(("id" = String, Path, description = "The file's id"), Conditional), security(("download" = [])),
    responses((status = 200, description = "All of it; `ETag` is the quoted id, `Repr-Digest` its SHA-256", content_type = "application/octet-stream", body = Vec<u8>), (status = 206, description = "The ranges asked for", content_type = "application/octet-stream", body = Vec<u8>), (status = 304, description = "The one that the caller has"), NotHeld, Precondition, Unsatisfiable)
)]
pub(super) async fn get_content(
    State(server): State<Arc<Server>>,
    Path(id): Path<String>,
    Extension(outlet): Extension<Outlet>,
    request: Request,
) -> Result<Response, Error> {
    let (parts, _) = request.into_parts();
    let claim = Claim::read(&server, &parts)?;
    // Before the judgement, so that no revocation can fall between the two.
    let running = server.running.enter(claim.hash());
    let access = claim.judge(&server, &id, Need::Read).await?;
    server.metrics.content_requests.inc();
    let blob = in_time(server.blobs.find(access.file)).await?.ok_or(Error::NotHere)?;
    if !blob.is_in_place().map_err(BlobError::Disk)? {
        server.blobs.suspects.add(access.file);
        return Err(Error::NotHere);
    }
    let there = blob.representation();
    let fields = Fields::read(&parts.headers);
    let outcome = decide(&fields.conditions(parts.method == Method::HEAD), &there);
    answer(outcome, &there, Source { server: &server, blob, outlet, running, head: parts.method == Method::HEAD })
}

/// The header fields that decide; repeated ones are one list (RFC 9110 §5.3).
struct Fields([Option<String>; 4]);

impl Fields {
    fn read(headers: &HeaderMap) -> Self {
        Self([header::RANGE, header::IF_MATCH, header::IF_NONE_MATCH, header::IF_RANGE].map(|name| {
            let mut values = headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
            let first = values.next()?.into_owned();
            Some(values.fold(first, |all, next| all + "," + &next))
        }))
    }

    fn conditions(&self, head: bool) -> Conditions<'_> {
        let [range, if_match, if_none_match, if_range] = self.0.each_ref().map(Option::as_deref);
        Conditions { head, range, if_match, if_none_match, if_range }
    }
}

struct Source<'a> {
    server: &'a Server,
    blob: Arc<Blob>,
    outlet: Outlet,
    running: running::Body,
    head: bool,
}

impl Source<'_> {
    fn body(self, segments: Vec<Segment>) -> (Body, u64) {
        let Self { server, blob, outlet, running, head } = self;
        let body = RangeBody::new((&server.blobs, blob), outlet, running, segments);
        let length = body.remaining();
        if head { (Body::empty(), length) } else { (Body::new(body), length) }
    }
}

/// Turns an outcome into an answer; the only place that sets headers.
fn answer(outcome: Outcome, there: &Representation, source: Source<'_>) -> Result<Response, Error> {
    let len = there.layout.size();
    let mut response = match outcome {
        Outcome::NotHeld => return Err(Error::NotHeld(there.runs.clone())),
        Outcome::PreconditionFailed => {
            Refusal(Problem::new(412, "precondition", "The file is not the one named")).into_response()
        }
        Outcome::NotModified => StatusCode::NOT_MODIFIED.into_response(),
        Outcome::Unsatisfiable => {
            let mut response =
                Refusal(Problem::new(416, "range", "The file has no such range").with("size", len)).into_response();
            response.headers_mut().insert(header::CONTENT_RANGE, content_range(&ContentRange::Unsatisfied { len }));
            response
        }
        Outcome::Whole => with_body(StatusCode::OK, OCTETS, source.body(vec![Segment::Content(0..len)])),
        Outcome::Part(range) => {
            let body = source.body(vec![Segment::Content(range.clone())]);
            let mut response = with_body(StatusCode::PARTIAL_CONTENT, OCTETS, body);
            response.headers_mut().insert(header::CONTENT_RANGE, content_range(&ContentRange::Part { range, len }));
            response
        }
        Outcome::Parts(ranges) => {
            let boundary = format!("ddm-{:032x}", rand::random::<u128>());
            let media_type = text(&format!("multipart/byteranges; boundary={boundary}"));
            with_body(StatusCode::PARTIAL_CONTENT, media_type, source.body(parts(&ranges, len, &boundary)))
        }
    };
    // The tag and the digest are the file's, not those of a document that says what was wrong.
    let of_file = response.status().is_success() || response.status() == StatusCode::NOT_MODIFIED;
    let headers = response.headers_mut();
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CACHE_CONTROL, CACHE);
    if of_file {
        headers.insert(header::ETAG, text(&there.etag()));
        if let Some(sha256) = there.sha256 {
            headers.insert(REPR_DIGEST, text(&sha256.to_field()));
        }
    }
    Ok(response)
}

fn with_body(status: StatusCode, media_type: HeaderValue, (body, length): (Body, u64)) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, media_type);
    response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// The body of several ranges (RFC 9110 §14.6).
fn parts(ranges: &[Range<u64>], len: u64, boundary: &str) -> Vec<Segment> {
    let mut segments = Vec::new();
    for range in ranges {
        let shown = ContentRange::Part { range: range.clone(), len };
        let head =
            format!("\r\n--{boundary}\r\nContent-Type: application/octet-stream\r\nContent-Range: {shown}\r\n\r\n");
        segments.push(Segment::Text(Bytes::from(head)));
        segments.push(Segment::Content(range.clone()));
    }
    segments.push(Segment::Text(Bytes::from(format!("\r\n--{boundary}--\r\n"))));
    segments
}

fn content_range(range: &ContentRange) -> HeaderValue {
    text(&range.to_string())
}

/// Everything passed here is printable ASCII that we made ourselves.
fn text(value: &str) -> HeaderValue {
    HeaderValue::from_str(value).unwrap_or(HeaderValue::from_static(""))
}
