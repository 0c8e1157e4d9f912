//! `Idempotency-Key`: a request that is repeated because its answer was lost makes nothing twice.
//!
//! A key counts for one account, one route and one body, and is kept for a day. The announcement of a file notes its key in the
//! transaction that makes the file. The other routes are safe to repeat by what they do; for them the first answer is kept, so that the
//! repetition gets it, too. Routes whose answer is a token (log-in, download token) take no key: a second token does no harm.

use std::{sync::Arc, time::Duration};

use axum::{
    body::{Body, to_bytes},
    extract::{FromRequestParts, MatchedPath, Request, State as Shared},
    http::{HeaderValue, Method, StatusCode, header, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http_front::extract::bearer;
use jiff::Timestamp;
use lifecycle::fault_log::FaultLog;
use tokio::time::timeout;
use wire::{Digest, Problem, ProblemKind};

use super::auth::SignedInUser;
use crate::{
    db::idempotency::{self, Made},
    error::{Error, Result, invalid},
    state::State,
};

static FAULTS: FaultLog = FaultLog::new("An answer could not be kept for repetitions");

const HEADER: &str = "idempotency-key";
const MAX_KEY_BYTES: usize = 255;
/// Bytes in the largest body whose answer is kept: that of a commit.
const MAX_BODY_BYTES: usize = 2 << 20;
/// Bytes in the largest answer that is kept.
const MAX_ANSWER_BYTES: usize = 256 << 10;
/// Routes whose first answer is kept.
const KEPT_ANSWERS: [&str; 5] =
    ["/v1/users", "/v1/files/{id}/commit", "/v1/files/{id}/adopt", "/v1/files/{id}/preheat", "/v1/jobs"];

const BODY_TIMEOUT: Duration = Duration::from_secs(15);
pub(crate) const IN_USE: Error =
    Error::Busy { status: 503, retry_after: 1, detail: "another request with this Idempotency-Key is being answered" };

/// Hash of a request's key, session and route; none without a key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Key(pub(crate) Option<Digest>);

impl Key {
    fn of(parts: &Parts) -> Result<Self> {
        let Some(key) = parts.headers.get(HEADER) else { return Ok(Self(None)) };
        if !(1..=MAX_KEY_BYTES).contains(&key.len()) || !key.as_bytes().iter().all(u8::is_ascii_graphic) {
            return Err(invalid(format!(
                "Idempotency-Key must be 1 to {MAX_KEY_BYTES} printable characters without spaces"
            )));
        }
        let session = bearer(&parts.headers).unwrap_or_default();
        let scope = [session.as_bytes(), parts.uri.path().as_bytes(), key.as_bytes()].join(&b'\n');
        Ok(Self(Some(Digest::of(&scope))))
    }
}

impl FromRequestParts<Arc<State>> for Key {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<State>) -> Result<Self> {
        Self::of(parts)
    }
}

/// Refuses a repetition whose body is another one.
///
/// # Errors
/// 422.
pub(crate) fn check_request(made: &Made, request: Digest) -> Result<()> {
    if made.request == request {
        return Ok(());
    }
    Err(invalid("this Idempotency-Key belongs to a request with another body: send a new key"))
}

/// Answers a repetition with the first answer, on the routes that keep it.
pub(crate) async fn keep_answers(Shared(state): Shared<Arc<State>>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let is_kept = *request.method() == Method::POST && route.is_some_and(|route| KEPT_ANSWERS.contains(&route));
    if !is_kept || !request.headers().contains_key(HEADER) {
        return next.run(request).await;
    }
    let (mut parts, body) = request.into_parts();
    // Only users have answers to get back; for others the route says what it refuses.
    if SignedInUser::from_request_parts(&mut parts, &state).await.is_err() {
        return next.run(Request::from_parts(parts, body)).await;
    }
    answer_once(&state, parts, body, next).await.unwrap_or_else(IntoResponse::into_response)
}

async fn answer_once(state: &State, parts: Parts, body: Body, next: Next) -> Result<Response> {
    let Key(Some(key)) = Key::of(&parts)? else { return Ok(next.run(Request::from_parts(parts, body)).await) };
    let _in_use = state.keys_in_use.reserve(key).ok_or(IN_USE)?;
    let body = timeout(BODY_TIMEOUT, to_bytes(body, MAX_BODY_BYTES)).await.map_err(|_| late())?;
    let body = body.map_err(|_| invalid("the body is too large or broke off"))?;
    let hash = Digest::of(&[parts.uri.query().unwrap_or_default().as_bytes(), &body].join(&b'\n'));
    if let Some(made) = state.db.made(key, Timestamp::now()).await? {
        check_request(&made, hash)?;
        return Ok(repeated(&made));
    }
    let answer = next.run(Request::from_parts(parts, Body::from(body))).await;
    if !answer.status().is_success() {
        return Ok(answer);
    }
    let (head, body) = answer.into_parts();
    let body = to_bytes(body, MAX_ANSWER_BYTES).await?;
    let text = String::from_utf8_lossy(&body).into_owned();
    let made = Made { key, request: hash, subject: String::new(), status: head.status.as_u16(), body: text };
    if let Err(error) = keep(state, &made).await {
        // The request is done; only its repetition would be answered by what it then finds.
        if state.db.note_failure(&error).is_none() {
            FAULTS.failed(format_args!("{error:#}"));
        }
    }
    Ok(Response::from_parts(head, Body::from(body)))
}

fn late() -> Error {
    let problem = Problem::new(408, ProblemKind::Timeout, "Request timeout");
    Error::Refused(problem.detail("the request body did not arrive in time"))
}

async fn keep(state: &State, made: &Made) -> anyhow::Result<()> {
    let mut write = state.db.write_lazily().await?;
    idempotency::note(&mut write, made, Timestamp::now()).await?;
    write.commit().await?;
    Ok(())
}

fn repeated(made: &Made) -> Response {
    let status = StatusCode::from_u16(made.status).unwrap_or(StatusCode::OK);
    if made.body.is_empty() {
        return status.into_response();
    }
    let json = HeaderValue::from_static("application/json");
    (status, [(header::CONTENT_TYPE, json)], made.body.clone()).into_response()
}
