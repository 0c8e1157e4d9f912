//! Requests of a file server.

mod catalogue;
mod event_log;
mod leases;
mod lines;
mod membership;
mod open_snapshot;

use std::time::Duration;

use reqwest::Client;
use url::Url;
use wire::{ServerId, token::Token};

pub use self::event_log::{LogPage, LogPosition};
use self::open_snapshot::OpenSnapshot;
use crate::{InfoError, server_clock::ServerClock, transport::Transport};

const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Client of the info-server with the identity of a file server.
#[derive(Debug, Clone)]
pub struct FileServerClient {
    transport: Transport,
    id: ServerId,
    open_snapshot: OpenSnapshot,
}

impl FileServerClient {
    /// Returns a client of the info-server at `base` for the server `id`. `http` must follow no redirect, so that the secret goes to
    /// no other origin.
    pub fn new(base: Url, http: Client, id: ServerId, secret: Token) -> Self {
        // Nothing is repeated here: each caller decides when to try again.
        let (deadline, repeat_for) = (ANSWER_TIMEOUT, Duration::ZERO);
        let transport =
            Transport { base, http, credential: Some(secret), deadline, repeat_for, clock: ServerClock::default() };
        Self { transport, id, open_snapshot: OpenSnapshot::default() }
    }

    /// Returns the error of an info-server that cannot be reached because of `reason`.
    pub fn unreachable(&self, reason: impl ToString) -> InfoError {
        self.transport.unreachable(reason)
    }

    fn own_path(&self, rest: &str) -> String {
        format!("v1/servers/{}{rest}", self.id)
    }
}
