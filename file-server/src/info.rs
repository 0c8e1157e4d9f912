//! The info-server as seen from here. Every question has a deadline and every answer a bound.

use std::time::Duration;

use bytes::BytesMut;
use futures::{Stream, StreamExt as _};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode, redirect::Policy};
use secrecy::{ExposeSecret as _, SecretString};
use serde::de::DeserializeOwned;
use url::Url;
use wire::{
    Digest, FileId,
    event::{Event, LogHeader},
    id::Epoch,
    server::{Heartbeat, HeartbeatAnswer, Introspection, ReplicaReport},
    token::Grant,
};

use crate::identity::Identity;

/// For a connection to stand.
const CONNECT: Duration = Duration::from_secs(2);
/// For an ordinary answer.
const ANSWER: Duration = Duration::from_secs(5);
/// For a token to be judged: somebody waits with a request open.
const INTROSPECTION: Duration = Duration::from_millis(500);
/// For the notice that this server leaves: the process is ending.
const LEAVING: Duration = Duration::from_secs(1);
/// For the next bytes of a log, beyond what it was asked to wait.
const LOG_SLACK: Duration = Duration::from_secs(10);
/// The largest ordinary answer, in bytes.
const MAX_ANSWER: usize = 4 << 20;
/// The longest line of a log, in bytes: one event with the grants of one group commit.
const MAX_LINE: usize = 16 << 20;

/// Why a question got no usable answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InfoError {
    #[error("the info-server cannot be reached: {0}")]
    Unreachable(#[from] reqwest::Error),
    #[error("the info-server answered {0}")]
    Status(StatusCode),
    #[error("the info-server's answer cannot be read: {0}")]
    Garbled(String),
}

/// The info-server.
#[derive(Debug, Clone)]
pub(crate) struct InfoServer {
    client: Client,
    base: Url,
    identity: Identity,
}

impl InfoServer {
    pub(crate) fn new(base: Url, identity: Identity) -> anyhow::Result<Self> {
        let client = client()?;
        Ok(Self { client, base, identity })
    }

    /// Registers or renews the lease; with the join secret it enrols.
    pub(crate) async fn beat(
        &self,
        heartbeat: &Heartbeat,
        join_secret: Option<&SecretString>,
    ) -> Result<HeartbeatAnswer, InfoError> {
        let request = self.client.request(Method::PUT, self.own("")).timeout(ANSWER).json(heartbeat);
        let request = match join_secret {
            Some(secret) => request.bearer_auth(secret.expose_secret()),
            None => self.authenticated(request),
        };
        answer(request.send().await?).await
    }

    /// Says that this server leaves.
    pub(crate) async fn leave(&self) -> Result<(), InfoError> {
        let request = self
            .client
            .delete(self.own(""))
            .query(&[("instance", self.identity.instance.to_string())])
            .timeout(LEAVING);
        success(self.authenticated(request).send().await?).map(drop)
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
            Err(InfoError::Status(StatusCode::NOT_FOUND)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reports which chunks of a file are here.
    pub(crate) async fn report(&self, file: FileId, report: &ReplicaReport) -> Result<(), InfoError> {
        let url = self.url(&format!("/v1/files/{file}/replicas/{}", self.identity.id));
        let request = self.client.put(url).timeout(ANSWER).json(report);
        success(self.authenticated(request).send().await?).map(drop)
    }

    /// Asks for the streams of this server after a cursor; waits up to `wait` for something new.
    pub(crate) async fn log(&self, epoch: Option<Epoch>, after: u64, wait: Duration) -> Result<Log, InfoError> {
        let mut query = vec![("after", after.to_string()), ("wait", wait.as_secs().to_string())];
        query.extend(epoch.map(|epoch| ("epoch", epoch.to_string())));
        let request = self.client.get(self.own("/events")).query(&query);
        let patience = wait.saturating_add(LOG_SLACK);
        let sent = tokio::time::timeout(patience, self.authenticated(request).send()).await;
        let response = success(sent.map_err(|_| InfoError::Status(StatusCode::GATEWAY_TIMEOUT))??)?;
        let mut lines = Lines { stream: Box::pin(response.bytes_stream()), buffer: BytesMut::new() };
        let first = lines.next().await?.ok_or_else(|| InfoError::Garbled("an empty log".to_owned()))?;
        let header = serde_json::from_slice(&first).map_err(|error| InfoError::Garbled(error.to_string()))?;
        Ok(Log { header, lines })
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

/// An open log: its header, then its events.
pub(crate) struct Log {
    pub(crate) header: LogHeader,
    lines: Lines,
}

impl Log {
    /// At most `most` further events; none once the log has ended.
    pub(crate) async fn events(&mut self, most: usize) -> Result<Vec<Event>, InfoError> {
        let mut events = Vec::new();
        while events.len() < most {
            let Some(line) = self.lines.next().await? else { break };
            events.push(Event::parse(&line).map_err(|error| InfoError::Garbled(error.to_string()))?);
        }
        Ok(events)
    }
}

/// The lines of a body.
struct Lines {
    stream: std::pin::Pin<Box<dyn Stream<Item = reqwest::Result<bytes::Bytes>> + Send>>,
    buffer: BytesMut,
}

impl Lines {
    async fn next(&mut self) -> Result<Option<BytesMut>, InfoError> {
        let mut searched = 0;
        loop {
            if let Some(found) = self.buffer.iter().skip(searched).position(|byte| *byte == b'\n') {
                let mut line = self.buffer.split_to(searched + found + 1);
                line.truncate(searched + found);
                if line.iter().all(u8::is_ascii_whitespace) {
                    searched = 0;
                    continue;
                }
                return Ok(Some(line));
            }
            searched = self.buffer.len();
            if searched > MAX_LINE {
                return Err(InfoError::Garbled("a line of the log is too long".to_owned()));
            }
            match self.stream.next().await {
                Some(more) => self.buffer.extend_from_slice(&more?),
                // A line that was cut off is not an event: the log was.
                None if searched > 0 => return Err(InfoError::Garbled("the log broke off".to_owned())),
                None => return Ok(None),
            }
        }
    }
}

fn success(response: Response) -> Result<Response, InfoError> {
    if response.status().is_success() { Ok(response) } else { Err(InfoError::Status(response.status())) }
}

async fn answer<T: DeserializeOwned>(response: Response) -> Result<T, InfoError> {
    let mut response = success(response)?;
    let mut body = Vec::new();
    while let Some(more) = response.chunk().await? {
        if body.len() + more.len() > MAX_ANSWER {
            return Err(InfoError::Garbled("too long".to_owned()));
        }
        body.extend_from_slice(&more);
    }
    serde_json::from_slice(&body).map_err(|error| InfoError::Garbled(error.to_string()))
}
