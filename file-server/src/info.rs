//! The info-server as seen from here. Every question has a deadline and every answer a bound.

use std::time::Duration;

use async_trait::async_trait;
use bus::{BusError, EventLog, LogBatch, Position};
use bytes::BytesMut;
use futures::{Stream, StreamExt as _};
use reqwest::{Client, RequestBuilder, Response, StatusCode, redirect::Policy};
use secrecy::{ExposeSecret as _, SecretString};
use serde::de::DeserializeOwned;
use url::Url;
use wire::{
    Digest, FileId,
    event::Event,
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
/// The longest line of a log, in bytes.
const MAX_LINE: usize = bus::MAX_BODY;
/// How much of a log is taken in at once, in bytes.
const LOG_PIECE: usize = 8 << 20;

/// Why a question got no usable answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InfoError {
    #[error("the info-server cannot be reached: {0}")]
    Unreachable(#[from] reqwest::Error),
    #[error("no address of this machine leads to the info-server: {0}")]
    NoRoute(std::io::Error),
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

    async fn log(&self, position: Position, wait: Duration) -> Result<LogBatch, InfoError> {
        let mut query = vec![("after", position.seq.to_string()), ("wait", wait.as_secs().to_string())];
        query.extend(position.epoch.map(|epoch| ("epoch", epoch.to_string())));
        let request = self.client.get(self.own("/events")).query(&query).timeout(wait.saturating_add(LOG_SLACK));
        let response = success(self.authenticated(request).send().await?)?;
        let mut lines = Lines { stream: Box::pin(response.bytes_stream()), buffer: BytesMut::new() };
        let first = lines.next().await?.ok_or_else(|| garbled("an empty log"))?;
        let mut batch = LogBatch { header: serde_json::from_slice(&first).map_err(garbled)?, lines: Vec::new() };
        let mut size = 0;
        while let Some(line) = lines.next().await? {
            size += line.len();
            batch.lines.push(line.freeze());
            if size > LOG_PIECE {
                cut_short(&mut batch)?;
                break;
            }
        }
        Ok(batch)
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

/// For the event bus.
#[async_trait]
impl EventLog for InfoServer {
    async fn after(&self, position: Position, wait: Duration) -> Result<LogBatch, BusError> {
        self.log(position, wait).await.map_err(|error| BusError::Log(Box::new(error)))
    }
}

/// Makes a batch of what was read of a log that is too long for one. Its lines ascend over all streams, so that it
/// reaches as far as its last line.
fn cut_short(batch: &mut LogBatch) -> Result<(), InfoError> {
    if batch.header.snapshot {
        return Err(garbled("the present state is too long"));
    }
    let last = batch.lines.last().ok_or_else(|| garbled("no lines"))?;
    batch.header.as_of = Event::parse(last).map_err(garbled)?.seq;
    Ok(())
}

fn garbled(reason: impl std::fmt::Display) -> InfoError {
    InfoError::Garbled(reason.to_string())
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
                return Err(garbled("a line of the log is too long"));
            }
            match self.stream.next().await {
                Some(more) => self.buffer.extend_from_slice(&more?),
                // A line that was cut off is not an event: the log was.
                None if searched > 0 => return Err(garbled("the log broke off")),
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
            return Err(garbled("too long"));
        }
        body.extend_from_slice(&more);
    }
    serde_json::from_slice(&body).map_err(garbled)
}
