//! `GET` and `HEAD /v1/files/{id}/content`.

use std::{borrow::Cow, ops::Range, sync::Arc};

use axum::{
    Extension,
    body::Body,
    extract::{Request, State},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use chunk_store::{
    Blob, BlobError, BodySource, Outlet, RangeBody, RangeResponse, Representation, RequestConditions, Segment, decide,
    with_disk_timeout,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use http_front::{
    extract::Path,
    openapi::{NotHeld, PreconditionFailed, RangeNotSatisfiable},
    problem_response::ProblemResponse,
};
use utoipa::IntoParams;
use wire::{Problem, range::ContentRange};

use super::access::PresentedToken;
use crate::{
    content::active_responses::ActiveResponse,
    error::{self, Error},
    state::AppState,
    tokens::permission::RequiredAccess,
};

/// The digest of the whole representation (RFC 9530 §3).
pub(super) const REPR_DIGEST: HeaderName = HeaderName::from_static("repr-digest");

/// Header fields of a response with content, those for pages of other origins included.
const MAX_RESPONSE_FIELDS: usize = 12;
const OCTET_STREAM: HeaderValue = HeaderValue::from_static("application/octet-stream");
/// Content is for the token's holder alone, and bytes must arrive as they are.
const CACHE_CONTROL: HeaderValue = HeaderValue::from_static("private, no-store, no-transform");

/// Header fields of a request for content, for the API description.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "the fields are read by `ConditionFields`; these describe them")]
pub(super) struct ConditionParameters {
    /// The bytes that are wanted (RFC 9110 §14.2), up to 100 ranges.
    range: Option<String>,
    /// Entity tags of which the file must have one.
    #[param(rename = "if-match")]
    if_match: Option<String>,
    /// Entity tags of which the file must have none.
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
    params(("id" = String, Path, description = "The file's id"), ConditionParameters), security(("download" = [])),
    responses((status = 200, description = "All of it; `ETag` is the quoted id, `Repr-Digest` its SHA-256", content_type = "application/octet-stream", body = Vec<u8>), (status = 206, description = "The requested ranges", content_type = "application/octet-stream", body = Vec<u8>), (status = 304, description = "The caller has the present version"), NotHeld, PreconditionFailed, RangeNotSatisfiable)
)]
pub(super) async fn get_content(
    State(state): State<Arc<AppState>>,
    Path(id): Path<String>,
    Extension(outlet): Extension<Outlet>,
    request: Request,
) -> Result<Response, Error> {
    let (parts, _) = request.into_parts();
    let token = PresentedToken::read(&state, &parts.headers)?;
    // Before the check, so that no revocation can come between the two.
    let response = state.responses.enter(token.hash());
    let access = token.authorize(&state, &id, RequiredAccess::Read).await?;
    state.metrics.content_requests.inc();
    let blob = with_disk_timeout(state.blobs.find(access.file)).await?.ok_or(Error::NotHere)?;
    if !blob.is_in_place().map_err(BlobError::Disk)? {
        state.blobs.scrub_queue().push(access.file);
        return Err(Error::NotHere);
    }
    error::note_opened();
    serve(&state, ContentRequest { method: &parts.method, headers: &parts.headers, outlet, response }, blob)
}

/// An authorised request for content.
pub(super) struct ContentRequest<'a> {
    pub(super) method: &'a Method,
    pub(super) headers: &'a HeaderMap,
    /// The connection that sends the response.
    pub(super) outlet: Outlet,
    pub(super) response: ActiveResponse,
}

/// Returns the response from a blob that was just found in place.
pub(super) fn serve(state: &AppState, request: ContentRequest<'_>, blob: Arc<Blob>) -> Result<Response, Error> {
    let ContentRequest { method, headers, outlet, response } = request;
    let (stored, head) = (blob.representation(), *method == Method::HEAD);
    let decision = decide(&ConditionFields::read(headers).conditions(head), &stored);
    let source = BodySource { store: state.blobs.clone(), blob, outlet, control: Arc::new(response) };
    respond(decision, &stored, ContentBody { source, head })
}

/// The header fields that decide about the response; repeated ones are one list (RFC 9110 §5.3).
struct ConditionFields<'a>([Option<Cow<'a, str>>; 4]);

impl<'a> ConditionFields<'a> {
    fn read(headers: &'a HeaderMap) -> Self {
        Self([header::RANGE, header::IF_MATCH, header::IF_NONE_MATCH, header::IF_RANGE].map(|name| {
            let mut values = headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
            let first = values.next()?;
            Some(values.fold(first, |all, next| all + "," + next))
        }))
    }

    fn conditions(&self, head: bool) -> RequestConditions<'_> {
        let [range, if_match, if_none_match, if_range] = self.0.each_ref().map(Option::as_deref);
        RequestConditions { head, range, if_match, if_none_match, if_range }
    }
}

/// Source of the body; a response to HEAD has none, and its length all the same.
struct ContentBody {
    source: BodySource,
    head: bool,
}

impl ContentBody {
    /// Returns a response with these segments as its body.
    fn response(self, status: StatusCode, media_type: HeaderValue, segments: Vec<Segment>) -> Response {
        let body = RangeBody::new(self.source, segments);
        let length = body.remaining();
        let mut response = Response::new(if self.head { Body::empty() } else { Body::new(body) });
        *response.status_mut() = status;
        response.headers_mut().reserve(MAX_RESPONSE_FIELDS);
        response.headers_mut().insert(header::CONTENT_TYPE, media_type);
        response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
        response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    }
}

/// Turns the decision into a response; the only place that sets headers.
fn respond(decision: RangeResponse, stored: &Representation, body: ContentBody) -> Result<Response, Error> {
    let len = stored.layout.size();
    let mut response = match decision {
        RangeResponse::NotHeld => return Err(Error::NotHeld(stored.chunks.clone())),
        RangeResponse::PreconditionFailed => {
            ProblemResponse(Problem::new(412, "precondition", "The file is not the one named")).into_response()
        }
        RangeResponse::NotModified => StatusCode::NOT_MODIFIED.into_response(),
        RangeResponse::Unsatisfiable => {
            let mut response =
                ProblemResponse(Problem::new(416, "range", "The file has no such range").with("size", len))
                    .into_response();
            response.headers_mut().insert(header::CONTENT_RANGE, content_range(&ContentRange::Unsatisfied { len }));
            response
        }
        RangeResponse::Whole => body.response(StatusCode::OK, OCTET_STREAM, vec![Segment::Content(0..len)]),
        RangeResponse::Part(range) => {
            let segments = vec![Segment::Content(range.clone())];
            let mut response = body.response(StatusCode::PARTIAL_CONTENT, OCTET_STREAM, segments);
            response.headers_mut().insert(header::CONTENT_RANGE, content_range(&ContentRange::Part { range, len }));
            response
        }
        RangeResponse::Parts(ranges) => {
            let boundary = format!("ddm-{:032x}", rand::random::<u128>());
            let media_type = text(format!("multipart/byteranges; boundary={boundary}"));
            body.response(StatusCode::PARTIAL_CONTENT, media_type, parts(&ranges, len, &boundary))
        }
    };
    // The tag and the digest are the file's, not those of a problem document.
    let of_file = response.status().is_success() || response.status() == StatusCode::NOT_MODIFIED;
    let headers = response.headers_mut();
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CACHE_CONTROL, CACHE_CONTROL);
    if of_file {
        headers.insert(header::ETAG, stored.etag().clone());
        if let Some(digest) = stored.repr_digest() {
            headers.insert(REPR_DIGEST, digest.clone());
        }
    }
    Ok(response)
}

/// Returns the body of several ranges (RFC 9110 §14.6).
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
    text(range.to_string())
}

/// Turns printable ASCII that this program made itself into a header value.
fn text(value: String) -> HeaderValue {
    HeaderValue::try_from(value).unwrap_or(HeaderValue::from_static(""))
}
