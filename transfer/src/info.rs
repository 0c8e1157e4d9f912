//! The info-server as those who transfer files see it: log-in, catalogue, tokens, publication.

use std::time::Duration;

use reqwest::{Method, RequestBuilder, Response};
use secrecy::{ExposeSecret as _, SecretString};
use serde::de::DeserializeOwned;
use serde_json::json;
use url::Url;
use wire::{
    FileId, Problem, Zone,
    catalog::{Commit, FileDetails, FileList, FileSummary, IssuedToken, Manifest, NewFile, Session, UploadPlan},
    server::ServerList,
    token::Token,
};

/// How long an ordinary answer may take.
const DEADLINE: Duration = Duration::from_secs(10);
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

/// The text comes from another machine and goes to a terminal.
fn told(problem: &Problem) -> String {
    let clean = |text: &str| text.chars().filter(|c| !c.is_control()).take(500).collect::<String>();
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
        Self { base, http, session }
    }

    /// Where it is.
    pub const fn base(&self) -> &Url {
        &self.base
    }

    /// Logs in.
    ///
    /// # Errors
    /// [`InfoError`]; status 401 when e-mail or password is wrong.
    pub async fn log_in(&self, email: &str, password: &SecretString) -> Result<Session> {
        let body = json!({ "email": email, "password": password.expose_secret() });
        self.ask(self.request(Method::POST, "v1/sessions").json(&body)).await
    }

    /// Ends the session.
    ///
    /// # Errors
    /// [`InfoError`].
    pub async fn log_out(&self) -> Result<()> {
        self.send(self.request(Method::DELETE, "v1/sessions/current")).await.map(drop)
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

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("{}/{path}", self.base.as_str().trim_end_matches('/'));
        let request = self.http.request(method, url).timeout(DEADLINE);
        match &self.session {
            Some(token) => request.bearer_auth(token.expose()),
            None => request,
        }
    }

    async fn ask<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T> {
        let body = self.send(request).await?;
        serde_json::from_slice(&body).map_err(|error| self.unusable(error.to_string()))
    }

    async fn send(&self, request: RequestBuilder) -> Result<Vec<u8>> {
        let answer = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = answer.status();
        let body = self.read(answer).await?;
        if status.is_success() {
            return Ok(body);
        }
        match serde_json::from_slice::<Problem>(&body) {
            Ok(problem) if problem.status == status.as_u16() => Err(InfoError::Refused(problem)),
            Ok(_) | Err(_) => Err(self.unusable(format!("status {status}"))),
        }
    }

    async fn read(&self, mut answer: Response) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        while let Some(part) = answer.chunk().await.map_err(|error| self.unreachable(&error))? {
            if body.len() + part.len() > MAX_ANSWER {
                return Err(self.unusable("it is too long".to_owned()));
            }
            body.extend_from_slice(&part);
        }
        Ok(body)
    }

    fn unreachable(&self, error: &reqwest::Error) -> InfoError {
        InfoError::Unreachable { base: self.base.clone(), reason: crate::source::cause(error) }
    }

    fn unusable(&self, reason: String) -> InfoError {
        InfoError::Unusable { base: self.base.clone(), reason }
    }
}
