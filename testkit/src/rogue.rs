//! A file server that misbehaves as told: what real servers do only once in a while, and always at the wrong time.
//!
//! It speaks just enough HTTP/1.1 over plain sockets to break every rule of it.

mod behaviour;
pub mod catalogue;
mod mischief;
mod reports;

use std::{
    io,
    net::SocketAddr,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use url::Url;
use wire::{
    FileId,
    range::{ContentRange, Selection, select},
    token::Token,
};

pub use self::{behaviour::Behaviour, reports::Asked};
use crate::{accept::accept, port::free_port};

/// Bytes written between two looks at the behaviour.
const PIECE: u64 = 16 << 10;
/// The longest request head that is read.
const MAX_HEAD: usize = 16 << 10;

/// A running rogue; it ends with all its connections when it is dropped.
#[derive(Debug)]
pub struct Rogue {
    address: SocketAddr,
    state: Arc<State>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct State {
    file: FileId,
    content: Bytes,
    started: Instant,
    now: Mutex<Now>,
}

#[derive(Debug)]
struct Now {
    behaviour: Behaviour,
    token: Option<String>,
    asked: Vec<Asked>,
    /// Chunks that were reported as wrong.
    reported: Vec<u32>,
    sent: u64,
    /// Time at which the throttled line is free again.
    line_free: Instant,
    /// True while a connection has the place of [`Behaviour::OneAtATime`].
    taken: bool,
}

impl Rogue {
    /// Starts on a free port of the loopback, honest, open to every token.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn start(file: FileId, content: Bytes) -> io::Result<Self> {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), file, content).await
    }

    /// Starts at an address, such as that of a rogue that was killed.
    ///
    /// # Errors
    /// When the address is taken.
    pub async fn start_at(mut address: SocketAddr, file: FileId, content: Bytes) -> io::Result<Self> {
        if address.port() == 0 {
            address.set_port(free_port().map_err(io::Error::other)?);
        }
        let listener = TcpListener::bind(address).await?;
        let started = Instant::now();
        let now = Mutex::new(Now {
            behaviour: Behaviour::Honest,
            token: None,
            asked: Vec::new(),
            reported: Vec::new(),
            sent: 0,
            line_free: started,
            taken: false,
        });
        let state = Arc::new(State { file, content, started, now });
        let task = accept(listener, Arc::clone(&state), serve);
        Ok(Self { address, state, task })
    }

    /// Returns the address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address of the file's content.
    pub fn url(&self) -> Url {
        let text = format!("http://{}/v1/files/{}/content", self.address, self.state.file);
        text.parse().unwrap_or_else(|error| unreachable!("{text} is a URL: {error}"))
    }

    /// Behaves so from now on, also in bodies that are being sent.
    pub fn set(&self, behaviour: Behaviour) {
        self.state.now().behaviour = behaviour;
    }

    /// Answers every other token than this one with 403.
    pub fn require(&self, token: &Token) {
        self.state.now().token = Some(format!("Bearer {}", token.expose()));
    }

    /// All requests so far, in order.
    pub fn asked(&self) -> Vec<Asked> {
        self.state.now().asked.clone()
    }

    /// Bytes of bodies written so far.
    pub fn sent(&self) -> u64 {
        self.state.now().sent
    }

    /// Ends at once: open connections break, new ones are refused.
    pub async fn kill(self) {
        self.task.abort();
        // The listener is closed when the task is gone.
        let mut this = self;
        let _ = (&mut this.task).await;
    }
}

impl Drop for Rogue {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl State {
    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answers the requests of one connection.
async fn serve(mut stream: TcpStream, state: Arc<State>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    while let Some(head) = read_head(&mut stream).await? {
        answer(&mut stream, &state, &head).await?;
    }
    Ok(())
}

async fn read_head(stream: &mut TcpStream) -> io::Result<Option<String>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= MAX_HEAD || stream.read_buf(&mut head).await? == 0 {
            return Ok(None);
        }
    }
    Ok(String::from_utf8(head).ok())
}

fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let named = |line: &'a str| line.split_once(':').filter(|(key, _)| key.eq_ignore_ascii_case(name));
    head.lines().find_map(named).map(|(_, value)| value.trim())
}

async fn answer(stream: &mut TcpStream, state: &State, head: &str) -> io::Result<()> {
    if let Some(chunk) = reports::reported_chunk(head) {
        state.now().reported.push(chunk);
        return refuse(stream, 202, "").await;
    }
    let len = u64::try_from(state.content.len()).unwrap_or(u64::MAX);
    let range = match select(field(head, "range").unwrap_or_default(), len) {
        Selection::Single(range) => range,
        _ => 0..len,
    };
    let (behaviour, allowed) = {
        let mut now = state.now();
        now.asked.push(Asked { range: range.clone(), at: state.started.elapsed() });
        let allowed = now.token.as_deref().is_none_or(|token| field(head, "authorization") == Some(token));
        (now.behaviour.clone(), allowed)
    };
    match behaviour {
        _ if !allowed => refuse(stream, 403, "").await,
        Behaviour::Status { code, retry_after } => {
            let retry = retry_after.map(|seconds| format!("Retry-After: {seconds}\r\n")).unwrap_or_default();
            refuse(stream, code, &retry).await
        }
        Behaviour::Refusal { code, body } => {
            let head = format!("HTTP/1.1 {code} x\r\nContent-Length: {}\r\n\r\n", body.len());
            stream.write_all(format!("{head}{body}").as_bytes()).await
        }
        Behaviour::Silent => std::future::pending().await,
        Behaviour::Interim => mischief::interim(stream).await,
        Behaviour::Head { size } => mischief::long_head(stream, size).await,
        Behaviour::Rubbish => mischief::rubbish(stream).await,
        Behaviour::Redirect(to) => refuse(stream, 302, &format!("Location: {to}\r\n")).await,
        Behaviour::Delay(time) => {
            tokio::time::sleep(time).await;
            send(stream, state, range, &behaviour).await
        }
        Behaviour::OneAtATime { .. } => {
            if std::mem::replace(&mut state.now().taken, true) {
                return refuse(stream, 503, "").await;
            }
            let sent = send(stream, state, range, &behaviour).await;
            state.now().taken = false;
            sent
        }
        _ => send(stream, state, range, &behaviour).await,
    }
}

async fn refuse(stream: &mut TcpStream, code: u16, headers: &str) -> io::Result<()> {
    stream.write_all(format!("HTTP/1.1 {code} x\r\n{headers}Content-Length: 0\r\n\r\n").as_bytes()).await
}

async fn send(stream: &mut TcpStream, state: &State, range: Range<u64>, behaviour: &Behaviour) -> io::Result<()> {
    let len = u64::try_from(state.content.len()).unwrap_or(u64::MAX);
    let whole = *behaviour == Behaviour::WholeFile;
    let range = if whole { 0..len } else { range };
    let (status, content_range) = if whole {
        ("200 OK", None)
    } else {
        let off = u64::from(*behaviour == Behaviour::WrongRange);
        let part = ContentRange::Part { range: range.start + off..range.end + off, len: len + off };
        ("206 Partial Content", Some(part.to_string()))
    };
    let etag = if *behaviour == Behaviour::WrongEtag { FileId::new() } else { state.file };
    let mut fields = vec![
        ("ETag", format!("\"{etag}\"")),
        ("Accept-Ranges", "bytes".to_owned()),
        ("Content-Length", (range.end - range.start).to_string()),
    ];
    fields.extend(content_range.map(|value| ("Content-Range", value)));
    match behaviour {
        Behaviour::Endless => replace(&mut fields, "Content-Length", None),
        Behaviour::Chunked { .. } => {
            replace(&mut fields, "Content-Length", None);
            fields.push(("Transfer-Encoding", "chunked".to_owned()));
            fields.push(("Trailer", "X-Digest".to_owned()));
        }
        Behaviour::Header { name, value } => replace(&mut fields, name, value.clone()),
        _ => {}
    }
    let fields: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let head = format!("HTTP/1.1 {status}\r\n{fields}\r\n");
    match behaviour {
        Behaviour::Drip(pause) => {
            let bytes = [head.into_bytes(), bytes_of(state, range, behaviour)].concat();
            return mischief::drip(stream, &bytes, *pause).await;
        }
        _ => stream.write_all(head.as_bytes()).await?,
    }
    match behaviour {
        Behaviour::Chunked { ends } => mischief::chunked(stream, &bytes_of(state, range, behaviour), *ends).await,
        Behaviour::Overlong => {
            send_body(stream, state, range).await?;
            mischief::rubbish(stream).await
        }
        _ => send_body(stream, state, range).await,
    }
}

fn replace(fields: &mut Vec<(&'static str, String)>, name: &'static str, value: Option<String>) {
    fields.retain(|(known, _)| *known != name);
    fields.extend(value.map(|value| (name, value)));
}

async fn send_body(stream: &mut TcpStream, state: &State, range: Range<u64>) -> io::Result<()> {
    let mut at = range.start;
    loop {
        let behaviour = state.now().behaviour.clone();
        let end = if behaviour == Behaviour::Endless { u64::MAX } else { range.end };
        if at >= end {
            return Ok(());
        }
        let mut piece = PIECE.min(end - at);
        let done = at - range.start;
        match behaviour {
            Behaviour::Truncate { after } | Behaviour::Reset { after } | Behaviour::Stall { after } => {
                if done >= after {
                    return mischief::break_off(stream, &behaviour).await;
                }
                piece = piece.min(after - done);
            }
            Behaviour::Unfinished { chunk, gives_rest, rate } => {
                let is_start = range.start.is_multiple_of(chunk);
                let after = if is_start { chunk - 1 } else { u64::from(gives_rest) * (chunk - range.start % chunk) };
                if done >= after {
                    return mischief::break_off(stream, &behaviour).await;
                }
                piece = piece.min(after - done).min((rate / 20).max(1));
                tokio::time::sleep(Duration::from_secs(1).mul_f64(bytes_as_float(piece) / bytes_as_float(rate))).await;
            }
            Behaviour::Throttle { rate } | Behaviour::OneAtATime { rate } => {
                piece = piece.min((rate / 20).max(1));
                throttle(state, piece, rate).await;
            }
            _ => {}
        }
        stream.write_all(&bytes_of(state, at..at.saturating_add(piece), &behaviour)).await?;
        state.now().sent += piece;
        at = at.saturating_add(piece);
    }
}

/// Waits for the line that all connections share.
async fn throttle(state: &State, bytes: u64, rate: u64) {
    let until = {
        let mut now = state.now();
        let start = now.line_free.max(Instant::now());
        now.line_free = start + Duration::from_secs(1).mul_f64(bytes_as_float(bytes) / bytes_as_float(rate.max(1)));
        now.line_free
    };
    tokio::time::sleep_until(until.into()).await;
}

#[expect(clippy::cast_precision_loss, reason = "a rate in a test")]
fn bytes_as_float(bytes: u64) -> f64 {
    bytes as f64
}

/// Bytes of the file; zeros behind its end.
fn bytes_of(state: &State, range: Range<u64>, behaviour: &Behaviour) -> Vec<u8> {
    let at = |n: u64| usize::try_from(n).unwrap_or(usize::MAX).min(state.content.len());
    let mut bytes = state.content.slice(at(range.start)..at(range.end)).to_vec();
    bytes.resize(usize::try_from(range.end - range.start).unwrap_or(0), 0);
    if let Behaviour::Unfinished { .. } = behaviour {
        bytes.iter_mut().for_each(|byte| *byte = !*byte);
    }
    if let Behaviour::FlipBit { every } = behaviour {
        for (n, byte) in (range.start..).zip(&mut bytes) {
            *byte ^= u8::from(n % every == every - 1);
        }
    }
    bytes
}
