//! The request that sends one chunk to one target, with its retries.

use std::{sync::Arc, time::Duration};

use reqwest::{
    Response, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER},
};
use wire::token::Token;

use super::stall_detector::StallDetector;
use crate::{
    rate_limiter::RateLimiter,
    source::{Failure, refusal},
    upload::upload_chunk::UploadChunk,
};

/// Most attempts to send a chunk.
const MAX_ATTEMPTS: u32 = 5;
/// First pause between two attempts; doubles.
const FIRST_RETRY_PAUSE: Duration = Duration::from_millis(250);
/// Longest pause that a server may ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(5);
/// Time that a request may take beyond the time that its body needs at [`MIN_BODY_RATE`].
const BASE_TIMEOUT: Duration = Duration::from_secs(10);
/// Slowest rate of a body, in bytes per second.
const MIN_BODY_RATE: u64 = 128 << 10;
/// A body may be this many times slower than its share of a limit: later requests share the limit, too.
const LIMITED_RATE_MARGIN: u64 = 16;

/// The end of a [`PutRequest`], with its failure if it failed; `None` when it was aborted.
pub(crate) type PutResult = Option<Result<(), PutFailure>>;

/// The failure of a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PutFailure {
    pub(crate) reason: String,
    /// Set if the target has no space left, which does not pass by itself.
    pub(crate) no_room: bool,
}

impl From<String> for PutFailure {
    fn from(reason: String) -> Self {
        Self { reason, no_room: false }
    }
}

/// A chunk to be sent to one target.
pub(crate) struct PutRequest {
    pub(super) url: String,
    pub(super) chunk: UploadChunk,
    pub(super) client: reqwest::Client,
    pub(super) token: Token,
    pub(super) stall_detector: Arc<StallDetector>,
    rate_limiter: RateLimiter,
    /// Slowest rate of the body, in bytes per second.
    min_rate: u64,
}

impl PutRequest {
    pub(super) fn new(
        url: String,
        chunk: UploadChunk,
        client: reqwest::Client,
        token: Token,
        stall_detector: Arc<StallDetector>,
    ) -> Self {
        let rate_limiter = RateLimiter::default();
        Self { url, chunk, client, token, stall_detector, rate_limiter, min_rate: MIN_BODY_RATE }
    }

    /// Sends the body no faster than the limiter allows, which `shares` requests share.
    pub(crate) fn limit(&mut self, rate_limiter: RateLimiter, shares: u64) {
        if let Some(rate) = rate_limiter.total_rate() {
            self.min_rate = self.min_rate.min(rate / shares / LIMITED_RATE_MARGIN).max(1);
        }
        self.rate_limiter = rate_limiter;
    }

    /// Sends the chunk until the target accepts it, rejects it, or has failed [`MAX_ATTEMPTS`] times.
    pub(crate) async fn run(self) -> Result<(), PutFailure> {
        let mut pause = FIRST_RETRY_PAUSE;
        let mut attempts = 1;
        loop {
            self.stall_detector.wait_begins();
            let permit = self.rate_limiter.body_permit().await;
            self.stall_detector.wait_ends();
            let limit = BASE_TIMEOUT + Duration::from_secs(self.chunk.len / self.min_rate);
            let outcome = match tokio::time::timeout(limit, self.send()).await {
                Ok(Ok(response)) => self.outcome(response).await,
                Ok(Err(error)) => PutOutcome::retry(self.failure(&Failure::from(error).to_string())),
                Err(_) => PutOutcome::retry(self.failure(&format!("no answer within {} s", limit.as_secs()))),
            };
            drop(permit);
            match outcome {
                PutOutcome::Accepted => {
                    self.stall_detector.chunk_accepted();
                    return Ok(());
                }
                PutOutcome::Retry { reason, min_pause } => {
                    self.stall_detector.failed(&reason);
                    if attempts >= MAX_ATTEMPTS {
                        return Err(reason.into());
                    }
                    tokio::time::sleep(pause.max(min_pause)).await;
                }
                PutOutcome::Rejected(failure) => return Err(failure),
            }
            (attempts, pause) = (attempts + 1, pause * 2);
        }
    }

    /// Returns the meaning of a response. A refusal is worded as its server does, and otherwise names chunk and status.
    async fn outcome(&self, response: Response) -> PutOutcome {
        let outcome = PutOutcome::of(&response, self.failure(&format!("status {}", response.status().as_u16())));
        if outcome == PutOutcome::Accepted { outcome } else { outcome.worded(refusal::words(response).await) }
    }

    fn failure(&self, reason: &str) -> String {
        format!("chunk {}: {reason}", self.chunk.index)
    }

    async fn send(&self) -> reqwest::Result<Response> {
        let request = self
            .client
            .put(&self.url)
            .bearer_auth(self.token.expose())
            .header("content-digest", self.chunk.digest.to_field())
            .header(CONTENT_TYPE, "application/octet-stream")
            .header(CONTENT_LENGTH, self.chunk.len);
        let stall_detector = Arc::clone(&self.stall_detector);
        request.body(self.chunk.body(&self.rate_limiter, move || stall_detector.progressed())).send().await
    }
}

/// The meaning of a response, or of its absence, for a chunk.
#[derive(Debug, PartialEq, Eq)]
enum PutOutcome {
    Accepted,
    /// The failure may pass: worth another attempt after this pause at least.
    Retry {
        reason: String,
        min_pause: Duration,
    },
    Rejected(PutFailure),
}

impl PutOutcome {
    fn retry(reason: String) -> Self {
        Self::Retry { reason, min_pause: Duration::ZERO }
    }

    /// Replaces the reason by the server's own words, if there are any.
    fn worded(self, words: Option<String>) -> Self {
        let Some(words) = words else { return self };
        match self {
            Self::Accepted => Self::Accepted,
            Self::Retry { min_pause, .. } => Self::Retry { reason: words, min_pause },
            Self::Rejected(failure) => Self::Rejected(PutFailure { reason: words, ..failure }),
        }
    }

    fn of(response: &Response, reason: String) -> Self {
        let status = response.status();
        let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let min_pause = retry_after.map_or(Duration::ZERO, Duration::from_secs).min(MAX_RETRY_AFTER);
        match status {
            _ if status.is_success() => Self::Accepted,
            // A full disk does not pass within the time of the retries.
            StatusCode::INSUFFICIENT_STORAGE => Self::Rejected(PutFailure { reason, no_room: true }),
            // 422: the bytes were altered on the way.
            StatusCode::UNPROCESSABLE_ENTITY | StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => {
                Self::Retry { reason, min_pause }
            }
            _ if status.is_server_error() => Self::Retry { reason, min_pause },
            _ => Self::Rejected(reason.into()),
        }
    }
}
