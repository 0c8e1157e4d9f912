//! Many file servers that register, answer who they are and beat, and do nothing else: all in one process, behind one port.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use wire::{
    ServerId, Zone,
    id::InstanceId,
    server::{Heartbeat, ServerIdentity},
    token::{Token, TokenKind},
};

/// Time between two heartbeats, equal to that of real file servers.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(3);
/// Room that each one says it has, in bytes.
const FREE: u64 = 1 << 44;
/// Registrations on their way at once.
const AT_ONCE: usize = 16;
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

/// The servers; they fall silent when it is dropped.
#[derive(Debug)]
pub struct Fleet {
    members: Arc<BTreeMap<ServerId, Member>>,
    beats: Arc<Mutex<Beats>>,
    _tasks: JoinSet<()>,
}

#[derive(Debug)]
struct Member {
    zone: Zone,
    instance: InstanceId,
    token: Token,
}

/// Outcome of heartbeats.
#[derive(Debug, Clone, Default)]
pub struct Beats {
    /// Time that each accepted heartbeat took.
    pub took: Vec<Duration>,
    /// Number of heartbeats that were not accepted.
    pub failed: usize,
}

impl Fleet {
    /// Enrols `count` servers, spread over `zones`, and lets them beat.
    ///
    /// # Errors
    /// When one of them is not accepted.
    pub async fn start(info: &str, join_secret: &str, zones: &[Zone], count: usize) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let mut members = BTreeMap::new();
        for (n, zone) in zones.iter().cycle().take(count).enumerate() {
            let member =
                Member { zone: zone.clone(), instance: InstanceId::new(), token: Token::generate(TokenKind::Server) };
            members.insert(format!("sim-{n:04}").parse()?, member);
        }
        let members = Arc::new(members);
        let mut tasks = JoinSet::new();
        tasks.spawn(answer_all(listener, members.clone()));
        let http = reqwest::Client::builder().no_proxy().timeout(REQUEST_TIMEOUT).build()?;
        let enrol = |(id, member): (&ServerId, &Member)| {
            let mut beat = member.heartbeat(id, address);
            if let Ok(beat) = &mut beat {
                beat.secret_sha256 = Some(member.token.hash());
            }
            let request = http.put(format!("{info}/v1/servers/{id}")).bearer_auth(join_secret);
            let id = id.clone();
            async move {
                let answer = request.json(&beat?).send().await?.error_for_status()?;
                let answer: wire::server::HeartbeatAnswer = answer.json().await?;
                ensure!(answer.reachable, "{id} is not reached");
                Ok(())
            }
        };
        let enrolments: Vec<_> = members.iter().map(enrol).collect();
        stream::iter(enrolments).buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await.context("enrolment")?;
        let beats = Arc::new(Mutex::new(Beats::default()));
        for (n, id) in members.keys().enumerate() {
            // Spread over the interval, as servers that started one after another are.
            let offset =
                HEARTBEAT_INTERVAL.mul_f64(f64::from(u32::try_from(n)?) / f64::from(u32::try_from(members.len())?));
            let sender = Heartbeats {
                http: http.clone(),
                url: format!("{info}/v1/servers/{id}"),
                beat: members[id].heartbeat(id, address)?,
                token: members[id].token.clone(),
            };
            tasks.spawn(sender.keep_beating(offset, beats.clone()));
        }
        Ok(Self { members, beats, _tasks: tasks })
    }

    /// The servers' ids.
    pub fn ids(&self) -> impl Iterator<Item = &ServerId> {
        self.members.keys()
    }

    /// Returns the outcome of the heartbeats since the last call.
    pub fn beats(&self) -> Beats {
        std::mem::take(&mut *self.beats.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Member {
    fn heartbeat(&self, id: &ServerId, address: SocketAddr) -> anyhow::Result<Heartbeat> {
        Ok(Heartbeat {
            zone: self.zone.clone(),
            url: format!("http://{address}/{id}").parse()?,
            instance: self.instance,
            secret_sha256: None,
            load: 0,
            free_bytes: FREE,
            weight: 1,
            seen: None,
        })
    }
}

/// Sender of one member's heartbeats.
struct Heartbeats {
    http: reqwest::Client,
    url: String,
    beat: Heartbeat,
    token: Token,
}

impl Heartbeats {
    async fn keep_beating(self, offset: Duration, beats: Arc<Mutex<Beats>>) {
        tokio::time::sleep(offset).await;
        let mut ticks = tokio::time::interval(HEARTBEAT_INTERVAL);
        loop {
            ticks.tick().await;
            let begun = Instant::now();
            let answer = self.http.put(&self.url).bearer_auth(self.token.expose()).json(&self.beat).send().await;
            let accepted = answer.is_ok_and(|answer| answer.status().is_success());
            let mut beats = beats.lock().unwrap_or_else(PoisonError::into_inner);
            if accepted {
                beats.took.push(begun.elapsed());
            } else {
                beats.failed += 1;
            }
        }
    }
}

/// Says who lives below each path: `GET /<id>/livez`.
async fn answer_all(listener: TcpListener, members: Arc<BTreeMap<ServerId, Member>>) {
    let mut peers = JoinSet::new();
    while let Ok((peer, _)) = listener.accept().await {
        let members = members.clone();
        peers.spawn(async move {
            // The requester hangs up, or waits no longer than its own deadline.
            let _ = tokio::time::timeout(REQUEST_TIMEOUT, answer(peer, &members)).await;
        });
        while peers.try_join_next().is_some() {}
    }
}

async fn answer(mut peer: TcpStream, members: &BTreeMap<ServerId, Member>) -> anyhow::Result<()> {
    let (mut head, mut piece) = (Vec::new(), [0; 1024]);
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let read = peer.read(&mut piece).await?;
        ensure!(read > 0 && head.len() < 16 << 10, "no head");
        head.extend_from_slice(piece.get(..read).unwrap_or_default());
    }
    let head = String::from_utf8_lossy(&head);
    let id = head.strip_prefix("GET /").and_then(|rest| rest.split('/').next()).and_then(|id| id.parse().ok());
    let found = id.and_then(|id: ServerId| Some((members.get(&id)?.instance, id)));
    let (status, body) = match found {
        Some((instance, server)) => ("200 OK", serde_json::to_string(&ServerIdentity { server, instance })?),
        None => ("404 Not Found", "{}".to_owned()),
    };
    let len = body.len();
    let text = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len}\r\nConnection: close\r\n\r\n{body}"
    );
    peer.write_all(text.as_bytes()).await?;
    Ok(peer.shutdown().await?)
}
