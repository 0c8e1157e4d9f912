//! The info-server as seen from here. Every question has a deadline and every answer a bound.

use std::time::Duration;

use lifecycle::observe;
use reqwest::{Client, RequestBuilder, Response, StatusCode, redirect::Policy};
use secrecy::{ExposeSecret as _, SecretString};
use serde::de::DeserializeOwned;
use url::Url;
use wire::{
    Digest, FileId, JobId, Problem, Zone,
    catalog::{FileDetails, IssuedToken, Manifest},
    event::LogHeader,
    id::Epoch,
    job::{Claim, Claimed, LeaseReport, Renewed},
    server::{Heartbeat, HeartbeatAnswer, HeldChunks, Introspection, Reconcile, Reconciled, ReplicaReport},
    token::{Grant, Token},
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

    /// Waits until the facts for all reach beyond `after`; how far they do.
    pub(crate) async fn notice(&self, epoch: Epoch, after: u64, wait: Duration) -> Result<LogHeader, InfoError> {
        let query = [("epoch", epoch.to_string()), ("after", after.to_string()), ("wait", wait.as_secs().to_string())];
        let request = self.client.get(self.own("/events")).query(&query).query(&[("notice", "true")]);
        answer(self.authenticated(request.timeout(wait + ANSWER)).send().await?).await
    }

    /// What a token grants; `None` when the info-server knows no such token.
    pub(crate) async fn introspect(&self, token_hash: Digest) -> Result<Option<Grant>, InfoError> {
        let request = self
            .client
            .post(self.url("/v1/tokens/introspect"))
            .timeout(INTROSPECTION)
            .json(&Introspection { token_hash });
        // Somebody's download asks: the info-server's log shows it under the same trace.
        let request = match observe::current_trace() {
            Some(trace) => request.header(wire::trace::HEADER, trace.header()),
            None => request,
        };
        match answer(self.authenticated(request).send().await?).await {
            Ok(grant) => Ok(Some(grant)),
            Err(InfoError::Refused { status: StatusCode::NOT_FOUND, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Asks what is to become of files that are held here.
    pub(crate) async fn reconcile(&self, question: &Reconcile) -> Result<Reconciled, InfoError> {
        let request = self.client.post(self.own("/reconcile")).timeout(ANSWER).json(question);
        answer(self.authenticated(request).send().await?).await
    }

    /// Reports which chunks of a file are here.
    pub(crate) async fn report(&self, file: FileId, report: &ReplicaReport) -> Result<(), InfoError> {
        let url = self.url(&format!("/v1/files/{file}/replicas/{}", self.identity.id));
        let request = self.client.put(url).timeout(ANSWER).json(report);
        success(self.authenticated(request).send().await?).await.map(drop)
    }

    /// Where a file is; with `grant` also a token for it.
    pub(crate) async fn details(&self, file: FileId, zone: &Zone, grant: bool) -> Result<FileDetails, InfoError> {
        let mut url = self.url(&format!("/v1/files/{file}"));
        let grant = if grant { "true" } else { "false" };
        url.query_pairs_mut().append_pair("zone", zone.as_str()).append_pair("grant", grant);
        answer(self.authenticated(self.client.get(url).timeout(ANSWER)).send().await?).await
    }

    /// What a file is made of.
    pub(crate) async fn manifest(&self, file: FileId) -> Result<Manifest, InfoError> {
        let request = self.client.get(self.url(&format!("/v1/files/{file}/manifest"))).timeout(ANSWER);
        answer(self.authenticated(request).send().await?).await
    }

    /// A further token for a file.
    pub(crate) async fn renew(&self, file: FileId) -> Result<IssuedToken, InfoError> {
        let request = self.client.post(self.url(&format!("/v1/files/{file}/tokens"))).timeout(ANSWER);
        answer(self.authenticated(request).send().await?).await
    }

    /// Asks for a part of a job.
    pub(crate) async fn claim(&self, job: JobId, claim: &Claim) -> Result<Claimed, InfoError> {
        let request = self.client.post(self.url(&format!("/v1/jobs/{job}/leases"))).timeout(ANSWER);
        answer(self.authenticated(request.json(claim)).send().await?).await
    }

    /// Renews a lease and tells what was fetched under it.
    pub(crate) async fn renew_lease(&self, job: JobId, fence: u64, report: &LeaseReport) -> Result<Renewed, InfoError> {
        let request = self.client.put(self.url(&format!("/v1/jobs/{job}/leases/{fence}"))).timeout(ANSWER);
        answer(self.authenticated(request.json(report)).send().await?).await
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

/// What another file server holds, whose content of the file is at `content`. Nothing when it holds nothing.
pub(crate) async fn held_chunks(client: &Client, content: &Url, token: &Token) -> Result<HeldChunks, InfoError> {
    let url = content.join("chunks").map_err(garbled)?;
    let request = client.get(url).timeout(CONNECT).bearer_auth(token.expose());
    match answer(request.send().await?).await {
        Err(InfoError::Refused { status: StatusCode::NOT_FOUND, .. }) => {
            Ok(HeldChunks { runs: wire::Runs::new(), root: None })
        }
        answered => answered,
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
