//! The info-server as seen from here. Every question has a deadline and every answer a bound.

use std::time::Duration;

use reqwest::{Client, RequestBuilder, Response, StatusCode, redirect::Policy};
use secrecy::{ExposeSecret as _, SecretString};
use serde::de::DeserializeOwned;
use url::Url;
use wire::{
    Digest, FileId, Problem,
    server::{Heartbeat, HeartbeatAnswer, Introspection, ReplicaReport},
    token::Grant,
};

use crate::identity::Identity;

mod log;

use log::Rest;

/// For a connection to stand.
const CONNECT: Duration = Duration::from_secs(2);
/// For an ordinary answer.
const ANSWER: Duration = Duration::from_secs(5);
/// For a token to be judged: somebody waits with a request open.
const INTROSPECTION: Duration = Duration::from_millis(500);
/// For the notice that this server leaves: the process is ending.
const LEAVING: Duration = Duration::from_secs(1);
/// The largest ordinary answer, in bytes.
const MAX_ANSWER: usize = 4 << 20;
/// Why a question got no usable answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InfoError {
    #[error("the info-server cannot be reached: {0}")]
    Unreachable(#[from] reqwest::Error),
    #[error("no address of this machine leads to the info-server: {0}")]
    NoRoute(std::io::Error),
    #[error("the info-server answered {status}{}", told(problem))]
    Refused { status: StatusCode, problem: Box<Problem> },
    #[error("the info-server's log did not come in time")]
    Late,
    #[error("the info-server's answer cannot be read: {0}")]
    Garbled(String),
}

/// The info-server.
#[derive(Debug, Clone)]
pub(crate) struct InfoServer {
    client: Client,
    base: Url,
    identity: Identity,
    /// What is left of a present state that is taken in piece by piece.
    rest: Rest,
}

impl InfoServer {
    pub(crate) fn new(base: Url, identity: Identity) -> anyhow::Result<Self> {
        let client = client()?;
        Ok(Self { client, base, identity, rest: Rest::default() })
    }

    /// Registers or renews the lease; with the join secret it enrols.
    pub(crate) async fn beat(
        &self,
        heartbeat: &Heartbeat,
        join_secret: Option<&SecretString>,
    ) -> Result<HeartbeatAnswer, InfoError> {
        let request = self.client.put(self.own("")).timeout(ANSWER).json(heartbeat);
        let request = match join_secret {
            Some(secret) => request.bearer_auth(secret.expose_secret()),
            None => self.authenticated(request),
        };
        answer(request.send().await?).await
    }

    /// Says that this server leaves.
    pub(crate) async fn leave(&self) -> Result<(), InfoError> {
        let request = self.client.delete(self.own("")).timeout(LEAVING);
        success(self.authenticated(request).send().await?).await.map(drop)
    }

    /// What a token grants; `None` when the info-server knows no such token.
    pub(crate) async fn introspect(&self, token_hash: Digest) -> Result<Option<Grant>, InfoError> {
        let request = self
            .client
            .post(self.url("/v1/tokens/introspect"))
            .timeout(INTROSPECTION)
            .json(&Introspection { token_hash });
        match answer(self.authenticated(request).send().await?).await {
            Ok(grant) => Ok(Some(grant)),
            Err(InfoError::Refused { status: StatusCode::NOT_FOUND, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reports which chunks of a file are here.
    pub(crate) async fn report(&self, file: FileId, report: &ReplicaReport) -> Result<(), InfoError> {
        let url = self.url(&format!("/v1/files/{file}/replicas/{}", self.identity.id));
        let request = self.client.put(url).timeout(ANSWER).json(report);
        success(self.authenticated(request).send().await?).await.map(drop)
    }

    fn own(&self, rest: &str) -> Url {
        self.url(&format!("/v1/servers/{}{rest}", self.identity.id))
    }

    fn url(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{path}", self.base.path().trim_end_matches('/')));
        url
    }

    fn authenticated(&self, request: RequestBuilder) -> RequestBuilder {
        request.bearer_auth(self.identity.secret.expose())
    }
}

/// A client that goes where it is told and nowhere else.
pub(crate) fn client() -> anyhow::Result<Client> {
    Ok(Client::builder()
        .connect_timeout(CONNECT)
        .read_timeout(Duration::from_secs(60))
        .redirect(Policy::none())
        .no_proxy()
        .user_agent(concat!("ddm-file-server/", env!("CARGO_PKG_VERSION")))
        .build()?)
}

fn garbled(reason: impl std::fmt::Display) -> InfoError {
    InfoError::Garbled(reason.to_string())
}

async fn success(response: Response) -> Result<Response, InfoError> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    // Whatever stands between may answer without one.
    let problem = read(response).await.unwrap_or_else(|_| Problem::new(status.as_u16(), "unknown", ""));
    Err(InfoError::Refused { status, problem: Box::new(problem) })
}

async fn answer<T: DeserializeOwned>(response: Response) -> Result<T, InfoError> {
    read(success(response).await?).await
}

async fn read<T: DeserializeOwned>(mut response: Response) -> Result<T, InfoError> {
    let mut body = Vec::new();
    while let Some(more) = response.chunk().await? {
        if body.len() + more.len() > MAX_ANSWER {
            return Err(garbled("too long"));
        }
        body.extend_from_slice(&more);
    }
    serde_json::from_slice(&body).map_err(garbled)
}

/// What a refusal says, for a line of a log.
fn told(problem: &Problem) -> String {
    let clean = |text: &str| text.chars().filter(|c| !c.is_control()).take(300).collect::<String>();
    [&problem.title, &problem.detail]
        .iter()
        .filter(|text| !text.is_empty())
        .map(|text| format!(": {}", clean(text)))
        .collect()
}
