//! The info-server as those who transfer files see it: log-in, catalogue, tokens, publication.

mod jobs;
mod sse;

use std::time::{Duration, Instant};

use reqwest::{Method, Request, RequestBuilder, Response};
use secrecy::{ExposeSecret as _, SecretString};
use serde::de::DeserializeOwned;
use serde_json::json;
use url::Url;
use wire::{
    AskerId, FileId, Problem, ServerId, SessionId, Zone,
    catalog::{
        Adoption, Commit, FileDetails, FileList, FileSummary, IssuedToken, Manifest, NewFile, Preheat, ReplicaStatus,
        Session, SessionList, UploadPlan,
    },
    name::plain,
    server::{DrainStatus, ServerList},
    token::Token,
};

pub use self::jobs::{JobEvent, JobEvents};

/// How long an ordinary answer may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// For how long something is asked for again when the answer is late or breaks off: on a line that loses packets one connection
/// or the next may be out of luck.
const READING: Duration = Duration::from_secs(20);
/// A commit waits for its quorum by itself.
const COMMIT_DEADLINE: Duration = Duration::from_secs(20);
/// The largest answer: a manifest of 16,384 digests in hex, with room to spare.
const MAX_ANSWER: usize = 4 << 20;

/// An info-server, and the login to use there.
#[derive(Debug, Clone)]
pub struct InfoServer {
    base: Url,
    http: reqwest::Client,
    session: Option<Token>,
    /// In whose name jobs are asked for; the account's own without one.
    asker: Option<AskerId>,
}

/// Why the info-server did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum InfoError {
    /// Nobody answered, or not in time.
    #[error("the info-server {base} does not answer: {reason}")]
    Unreachable {
        /// Where it should be.
        base: Url,
        /// What happened.
        reason: String,
    },
    /// It refused, and says why.
    #[error("{}", told(.0))]
    Refused(Problem),
    /// Whatever answers there is not an info-server.
    #[error("the answer of {base} cannot be used: {reason}")]
    Unusable {
        /// Where it came from.
        base: Url,
        /// What is wrong with it.
        reason: String,
    },
}

/// The longest text of another machine that is shown, in characters.
const MAX_TEXT: usize = 500;

/// The text comes from another machine and goes to a terminal.
fn told(problem: &Problem) -> String {
    let clean = |text: &str| plain(text, MAX_TEXT);
    let title = if problem.title.is_empty() { format!("status {}", problem.status) } else { clean(&problem.title) };
    if problem.detail.is_empty() { title } else { format!("{title}: {}", clean(&problem.detail)) }
}

impl InfoError {
    /// The status of a refusal.
    pub const fn status(&self) -> Option<u16> {
        match self {
            Self::Refused(problem) => Some(problem.status),
            Self::Unreachable { .. } | Self::Unusable { .. } => None,
        }
    }
}

type Result<T> = std::result::Result<T, InfoError>;

impl InfoServer {
    /// An info-server at `base`. `http` should come from [`crate::source::client_builder`]: no redirects, so that the
    /// login goes to no other origin.
    pub const fn new(base: Url, http: reqwest::Client, session: Option<Token>) -> Self {
        Self { base, http, session, asker: None }
    }

    /// The same, asked in the name of one asker of jobs: it leaves without the other processes of its account.
    #[must_use]
    pub const fn asking_as(mut self, asker: AskerId) -> Self {
        self.asker = Some(asker);
        self
    }

    /// Where it is.
    pub const fn base(&self) -> &Url {
        &self.base
    }

    /// Logs in; `zone` is that of every later request of the session that names none.
    ///
    /// # Errors
    /// [`InfoError`]; status 401 when e-mail or password is wrong.
    pub async fn log_in(&self, email: &str, password: &SecretString, zone: Option<&Zone>) -> Result<Session> {
        let body = json!({ "email": email, "password": password.expose_secret(), "zone": zone });
        self.ask(self.request(Method::POST, "v1/sessions").json(&body)).await
    }

    /// Ends the session.
    ///
    /// # Errors
    /// [`InfoError`].
    pub async fn log_out(&self) -> Result<()> {
        self.send(self.request(Method::DELETE, "v1/sessions/current")).await.map(drop)
    }

    /// The open sessions of the account.
    ///
    /// # Errors
    /// [`InfoError`].
    pub async fn sessions(&self) -> Result<SessionList> {
        self.ask(self.request(Method::GET, "v1/sessions")).await
    }

    /// Ends one session.
    ///
    /// # Errors
    /// [`InfoError`]; status 404 when there is no such session of this account.
    pub async fn close_session(&self, id: SessionId) -> Result<()> {
        self.send(self.request(Method::DELETE, &format!("v1/sessions/{id}"))).await.map(drop)
    }

    /// Ends all sessions of the account but this one.
    ///
    /// # Errors
    /// [`InfoError`].
    pub async fn close_other_sessions(&self) -> Result<()> {
        self.send(self.request(Method::DELETE, "v1/sessions")).await.map(drop)
    }

    /// One page of the list.
    ///
    /// # Errors
    /// [`InfoError`].
    pub async fn files(&self, part: &str, limit: u32, cursor: Option<&str>) -> Result<FileList> {
        let request = self.request(Method::GET, "v1/files").query(&[("q", part)]).query(&[("limit", limit)]);
        self.ask(request.query(&[("cursor", cursor.unwrap_or_default())])).await
    }

    /// The details query; takes a token only with `grant`.
    ///
    /// # Errors
    /// [`InfoError`]; status 404 when there is no such file.
    pub async fn file(&self, id: FileId, zone: Option<&Zone>, grant: bool) -> Result<FileDetails> {
        let zone = zone.map(Zone::as_str).unwrap_or_default();
        let grant = if grant { "true" } else { "false" };
        self.ask(self.request(Method::GET, &format!("v1/files/{id}")).query(&[("zone", zone), ("grant", grant)])).await
    }

    /// What the file is made of.
    ///
    /// # Errors
    /// [`InfoError`].
    pub async fn manifest(&self, id: FileId) -> Result<Manifest> {
        self.ask(self.request(Method::GET, &format!("v1/files/{id}/manifest"))).await
    }

    /// The file as a Metalink 4 document, for download programs that are not ours.
    ///
    /// # Errors
    /// [`InfoError`]; status 409 when the file is not published yet.
    pub async fn metalink(&self, id: FileId, zone: Option<&Zone>) -> Result<String> {
        let zone = zone.map(Zone::as_str).unwrap_or_default();
        let request = self.request(Method::GET, &format!("v1/files/{id}/metalink")).query(&[("zone", zone)]);
        String::from_utf8(self.send(request).await?).map_err(|error| self.unusable(&error.to_string()))
    }

    /// A further token for a download that runs long.
    ///
    /// # Errors
    /// [`InfoError`].
    pub async fn renew(&self, id: FileId) -> Result<IssuedToken> {
        self.ask(self.request(Method::POST, &format!("v1/files/{id}/tokens"))).await
    }

    /// Announces a file.
    ///
    /// # Errors
    /// [`InfoError`]; status 409 when too few servers live.
    pub async fn announce(&self, file: &NewFile) -> Result<UploadPlan> {
        self.ask(self.request(Method::POST, "v1/files").json(file)).await
    }

    /// Fixes the content of an announced file; waits for its quorum.
    ///
    /// # Errors
    /// [`InfoError`]; status 409 when the quorum is missing.
    pub async fn commit(&self, id: FileId, commit: &Commit) -> Result<FileSummary> {
        let request = self.request(Method::POST, &format!("v1/files/{id}/commit")).timeout(COMMIT_DEADLINE);
        self.ask(request.json(commit)).await
    }

    /// Takes a file that servers hold and the catalogue does not know into the catalogue.
    ///
    /// # Errors
    /// [`InfoError`]; status 409 when no server holds it as an unknown one.
    pub async fn adopt(&self, id: FileId, adoption: &Adoption) -> Result<FileSummary> {
        self.ask(self.request(Method::POST, &format!("v1/files/{id}/adopt")).json(adoption)).await
    }

    /// Removes a file.
    ///
    /// # Errors
    /// [`InfoError`].
    pub async fn remove(&self, id: FileId) -> Result<()> {
        self.send(self.request(Method::DELETE, &format!("v1/files/{id}"))).await.map(drop)
    }

    /// The live file servers.
    ///
    /// # Errors
    /// [`InfoError`].
    pub async fn servers(&self) -> Result<ServerList> {
        self.ask(self.request(Method::GET, "v1/servers")).await
    }

    /// Where a file should stand, and where it verifiably does.
    ///
    /// # Errors
    /// [`InfoError`].
    pub async fn replicas(&self, id: FileId) -> Result<ReplicaStatus> {
        self.ask(self.request(Method::GET, &format!("v1/files/{id}/replicas"))).await
    }

    /// Has a file stand in one more zone.
    ///
    /// # Errors
    /// [`InfoError`]; status 409 when no server of the zone is live.
    pub async fn preheat(&self, id: FileId, asked: &Preheat) -> Result<()> {
        self.send(self.request(Method::POST, &format!("v1/files/{id}/preheat")).json(asked)).await.map(drop)
    }

    /// Begins to empty a file server.
    ///
    /// # Errors
    /// [`InfoError`]; status 409 when others cannot hold its files.
    pub async fn drain(&self, server: &ServerId) -> Result<DrainStatus> {
        self.ask(self.request(Method::POST, &format!("v1/servers/{server}/drain"))).await
    }

    /// How far the emptying of a file server is.
    ///
    /// # Errors
    /// [`InfoError`].
    pub async fn drain_status(&self, server: &ServerId) -> Result<DrainStatus> {
        self.ask(self.request(Method::GET, &format!("v1/servers/{server}/drain"))).await
    }

    /// Has a file server take files again.
    ///
    /// # Errors
    /// [`InfoError`].
    pub async fn undrain(&self, server: &ServerId) -> Result<()> {
        self.send(self.request(Method::DELETE, &format!("v1/servers/{server}/drain"))).await.map(drop)
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.unbounded(method, path).timeout(DEADLINE)
    }

    fn unbounded(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("{}/{path}", self.base.as_str().trim_end_matches('/'));
        let request = self.http.request(method, url);
        match &self.session {
            Some(token) => request.bearer_auth(token.expose()),
            None => request,
        }
    }

    async fn ask<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T> {
        let body = self.send(request).await?;
        serde_json::from_slice(&body).map_err(|error| self.unusable(&error.to_string()))
    }

    async fn send(&self, request: RequestBuilder) -> Result<Vec<u8>> {
        let request = request.build().map_err(|error| self.unreachable(&error))?;
        let until = Instant::now() + READING;
        // What changes something is asked for once.
        while let Some(again) = request.try_clone().filter(|again| again.method() == Method::GET) {
            match self.exchange(again).await {
                Err(error) if (error.is_timeout() || error.is_body()) && Instant::now() < until => {
                    tracing::debug!(error = crate::source::cause(&error), "asking the info-server once more");
                }
                result => return result.map_err(|error| self.unreachable(&error))?,
            }
        }
        self.exchange(request).await.map_err(|error| self.unreachable(&error))?
    }

    /// Asks once. The outer error is that of the connection.
    async fn exchange(&self, request: Request) -> reqwest::Result<Result<Vec<u8>>> {
        self.judge(self.http.execute(request).await?).await
    }

    /// The body of a success; what a refusal says.
    async fn judge(&self, mut answer: Response) -> reqwest::Result<Result<Vec<u8>>> {
        let status = answer.status();
        let mut body = Vec::new();
        while let Some(part) = answer.chunk().await? {
            if body.len() + part.len() > MAX_ANSWER {
                return Ok(Err(self.unusable("it is too long")));
            }
            body.extend_from_slice(&part);
        }
        if status.is_success() {
            return Ok(Ok(body));
        }
        Ok(match serde_json::from_slice::<Problem>(&body) {
            Ok(problem) if problem.status == status.as_u16() => Err(InfoError::Refused(problem)),
            Ok(_) | Err(_) => Err(self.unusable(&format!("status {status}"))),
        })
    }

    fn unreachable(&self, error: &reqwest::Error) -> InfoError {
        InfoError::Unreachable { base: self.base.clone(), reason: crate::source::cause(error) }
    }

    /// Reasons may repeat words of the answer.
    fn unusable(&self, reason: &str) -> InfoError {
        InfoError::Unusable { base: self.base.clone(), reason: plain(reason, MAX_TEXT) }
    }
}
