//! Requests of a user: a person, a tool, or a command of an operator.

mod accounts;
mod files;
mod fleet;
mod jobs;
mod publishing;
mod sessions;
mod sse;

use std::time::Duration;

use jiff::Timestamp;
use reqwest::{Client, Method};
use serde::Deserialize;
use url::Url;
use wire::{RequesterId, token::Token};

pub use self::{
    accounts::{AccountChange, AccountList},
    jobs::{JobEvent, JobEvents},
};
use crate::{Result, server_clock::ServerClock, transport::Transport};

const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
const REPEAT_FOR: Duration = Duration::from_secs(20);

/// Client of the info-server with the login of a user.
#[derive(Debug, Clone)]
pub struct UserClient {
    transport: Transport,
    /// Requester of jobs; the account itself without one.
    requester: Option<RequesterId>,
}

impl UserClient {
    /// Returns a client of the info-server at `base`. `http` must follow no redirect, so that the login goes to no other origin.
    pub fn new(base: Url, http: Client, session: Option<Token>) -> Self {
        let (deadline, repeat_for) = (ANSWER_TIMEOUT, REPEAT_FOR);
        let transport =
            Transport { base, http, credential: session, deadline, repeat_for, clock: ServerClock::default() };
        Self { transport, requester: None }
    }

    /// Returns the same client for one requester of jobs, which joins and leaves them apart from the other processes of its account.
    #[must_use]
    pub const fn as_requester(mut self, requester: RequesterId) -> Self {
        self.requester = Some(requester);
        self
    }

    /// Asks for the info-server's time. An older one names it in the head of its answer alone.
    ///
    /// # Errors
    /// [`InfoError`](crate::InfoError).
    pub async fn server_time(&self) -> Result<Timestamp> {
        #[derive(Deserialize)]
        struct Alive {
            time: Option<Timestamp>,
        }
        let Alive { time } = self.transport.fetch(self.transport.request(Method::GET, "livez")).await?;
        time.into_iter().for_each(|time| self.transport.clock.set(time));
        self.transport.clock.now().ok_or_else(|| self.transport.unusable("it does not name its time"))
    }

    /// Returns the info-server's present time after its latest answer; none before the first one.
    pub fn estimated_server_time(&self) -> Option<Timestamp> {
        self.transport.clock.now()
    }

    /// Returns the address of the info-server.
    pub const fn base(&self) -> &Url {
        &self.transport.base
    }
}
