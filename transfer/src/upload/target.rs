//! One server that takes an upload.

mod pulse;

use std::{sync::Arc, time::Duration};

use reqwest::{
    Response, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER},
};
use wire::{Runs, ServerId, catalog::Target, server::HeldChunks, token::Token};

use self::pulse::Pulse;
use super::{TargetReport, flights::PutResult, piece::Piece};
use crate::source::Failure;

/// How often a chunk is sent at most.
const TRIES: u32 = 5;
/// The first pause between two tries; doubles. Also the shortest and longest that a server may ask for.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A request may take this long, and as long again as this rate needs for its body.
const GRACE: Duration = Duration::from_secs(10);
const SLOWEST: u64 = 128 << 10;
/// How long a target may take to say what it holds.
const ASKING: Duration = Duration::from_secs(3);
/// More than the list of all chunks takes.
const MAX_HELD_LEN: usize = 512 << 10;

/// A target and what became of it.
#[derive(Debug)]
pub(super) struct Seat {
    target: Target,
    held: Runs,
    sent: u64,
    resumed: u64,
    failure: Option<String>,
    pulse: Arc<Pulse>,
    flying: u32,
}

impl Seat {
    pub(super) fn new(target: Target) -> Self {
        Self { target, held: Runs::new(), sent: 0, resumed: 0, failure: None, pulse: Arc::default(), flying: 0 }
    }

    pub(super) const fn server(&self) -> &ServerId {
        &self.target.server
    }

    pub(super) fn lives(&self) -> bool {
        self.failure.is_none()
    }

    /// Why it does not get on, if it does not.
    pub(super) fn stuck(&self) -> Option<String> {
        self.pulse.stuck()
    }

    pub(super) fn give_up(&mut self, reason: String) {
        self.failure = Some(reason);
    }

    /// Its name and why it failed, if it did.
    pub(super) fn failure(&self) -> Option<String> {
        self.failure.as_ref().map(|failure| format!("{}: {failure}", self.target.server))
    }

    pub(super) fn report(self) -> TargetReport {
        let Self { target, sent, resumed, failure, .. } = self;
        TargetReport { server: target.server, sent, resumed, failure }
    }

    /// Asks which chunks it holds. One that does not say is sent everything.
    pub(super) async fn ask_held(&mut self, client: &reqwest::Client, token: &Token) {
        let asked = tokio::time::timeout(ASKING, held(client, &self.target, token)).await;
        match asked {
            Ok(Ok(runs)) => self.held = runs,
            Ok(Err(failure)) => tracing::debug!(server = %self.target.server, %failure, "no list of held chunks"),
            Err(_) => tracing::debug!(server = %self.target.server, "no list of held chunks in time"),
        }
    }

    /// The request that brings it a chunk; none when it failed or holds it.
    pub(super) fn put(&mut self, piece: &Piece, client: &reqwest::Client, token: &Token) -> Option<Put> {
        if self.held.contains(piece.chunk.get()) {
            self.resumed += piece.len;
            return None;
        }
        let (url, piece, client, token) = (&self.target.url, piece.clone(), client.clone(), token.clone());
        let url = format!("{}/{}", url.as_str().trim_end_matches('/'), piece.chunk);
        if !self.lives() {
            return None;
        }
        if self.flying == 0 {
            // Nothing was asked of it until now.
            self.pulse.beat();
        }
        self.flying += 1;
        Some(Put { url, piece, client, token, pulse: Arc::clone(&self.pulse) })
    }

    /// A request ended. Returns why the target failed, when it did just now.
    pub(super) fn settle(&mut self, len: u64, result: PutResult) -> Option<String> {
        self.flying = self.flying.saturating_sub(1);
        match result {
            Some(Ok(())) => self.sent += len,
            Some(Err(failure)) if self.lives() => {
                self.failure = Some(failure.clone());
                return Some(failure);
            }
            Some(Err(_)) | None => {}
        }
        None
    }
}

async fn held(client: &reqwest::Client, target: &Target, token: &Token) -> Result<Runs, Failure> {
    let mut response = client.get(target.url.clone()).bearer_auth(token.expose()).send().await?;
    if response.status() != StatusCode::OK {
        return Err(Failure::Answer(format!("status {}", response.status().as_u16())));
    }
    let mut text = Vec::new();
    while let Some(part) = response.chunk().await? {
        text.extend_from_slice(&part);
        if text.len() > MAX_HELD_LEN {
            return Err(Failure::Answer("the list of held chunks does not end".into()));
        }
    }
    let held: HeldChunks = serde_json::from_slice(&text).map_err(|error| Failure::Answer(error.to_string()))?;
    Ok(held.runs)
}

/// A chunk on its way to one target.
pub(super) struct Put {
    url: String,
    piece: Piece,
    client: reqwest::Client,
    token: Token,
    pulse: Arc<Pulse>,
}

impl Put {
    /// Sends until it is taken, refused for good, or tried often enough.
    pub(super) async fn run(self) -> Result<(), String> {
        let mut pause = FIRST_PAUSE;
        let mut tries = 1;
        loop {
            let limit = GRACE + Duration::from_secs(self.piece.len / SLOWEST);
            let verdict = match tokio::time::timeout(limit, self.send()).await {
                Ok(Ok(response)) => judge(&response),
                Ok(Err(error)) => Verdict::Again(Failure::from(error).to_string(), Duration::ZERO),
                Err(_) => Verdict::Again(format!("no answer within {} s", limit.as_secs()), Duration::ZERO),
            };
            self.note(&verdict);
            match verdict {
                Verdict::Taken => return Ok(()),
                Verdict::Again(_, asked) if tries < TRIES => tokio::time::sleep(pause.max(asked)).await,
                Verdict::Again(reason, _) | Verdict::Never(reason) => {
                    return Err(format!("chunk {}: {reason}", self.piece.chunk));
                }
            }
            (tries, pause) = (tries + 1, pause * 2);
        }
    }

    fn note(&self, verdict: &Verdict) {
        match verdict {
            Verdict::Taken => self.pulse.taken(),
            Verdict::Again(reason, _) => self.pulse.trouble(reason),
            Verdict::Never(_) => {}
        }
    }

    async fn send(&self) -> reqwest::Result<Response> {
        let request = self
            .client
            .put(&self.url)
            .bearer_auth(self.token.expose())
            .header("content-digest", self.piece.digest.to_field())
            .header(CONTENT_TYPE, "application/octet-stream")
            .header(CONTENT_LENGTH, self.piece.len);
        let pulse = Arc::clone(&self.pulse);
        request.body(self.piece.body(move || pulse.beat())).send().await
    }
}

/// What an answer means for a chunk.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Taken,
    /// Worth another try, not before this pause.
    Again(String, Duration),
    Never(String),
}

fn judge(response: &Response) -> Verdict {
    let status = response.status();
    let asked = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let pause = asked.map_or(Duration::ZERO, Duration::from_secs).min(LONGEST_PAUSE);
    let reason = format!("status {}", status.as_u16());
    match status {
        _ if status.is_success() => Verdict::Taken,
        // No room is not a matter of patience.
        StatusCode::INSUFFICIENT_STORAGE => Verdict::Never(reason),
        // The bytes were altered on the way.
        StatusCode::UNPROCESSABLE_ENTITY | StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => {
            Verdict::Again(reason, pause)
        }
        _ if status.is_server_error() => Verdict::Again(reason, pause),
        _ => Verdict::Never(reason),
    }
}
