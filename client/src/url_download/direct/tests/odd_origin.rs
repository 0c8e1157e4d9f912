//! A web server over plain sockets that answers as a test says, and notes what it was asked.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// A request.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    /// Number of the request, from 0.
    pub(super) n: usize,
    /// Path and query.
    pub(super) target: String,
    /// The whole head.
    head: String,
    pub(super) at: Instant,
}

/// An answer; the connection is closed after it.
#[derive(Debug, Clone, Default)]
pub(super) struct Answer {
    pub(super) head: String,
    pub(super) body: Vec<u8>,
    /// Time before the head.
    pub(super) delay: Duration,
    /// Time in the middle of the body.
    pub(super) pause: Duration,
}

impl Asked {
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        let fields = self.head.lines().filter_map(|line| line.split_once(':'));
        fields.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    /// Returns the request as a server reads it that does not heed its range.
    pub(super) fn without_range(mut self) -> Self {
        let others = self.head.lines().filter(|line| !line.to_ascii_lowercase().starts_with("range:"));
        self.head = others.collect::<Vec<_>>().join("\r\n");
        self
    }

    /// Returns the first byte of the range asked for.
    pub(super) fn start(&self) -> usize {
        let range = self.field("range").and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
        range.map_or(0, |(start, _)| start.parse().unwrap())
    }
}

impl Answer {
    /// Returns a head without a body.
    pub(super) fn status(line: &str, fields: &str) -> Self {
        Self {
            head: format!("HTTP/1.1 {line}\r\n{fields}Content-Length: 0\r\nConnection: close\r\n\r\n"),
            ..Self::default()
        }
    }

    /// Returns the content, or the range asked for, with further fields.
    pub(super) fn content(asked: &Asked, content: &[u8], fields: &str) -> Self {
        let (len, start) = (content.len(), asked.start());
        let body = content[start.min(len)..].to_vec();
        let status = if asked.field("range").is_some() {
            format!("206 Partial Content\r\nContent-Range: bytes {start}-{}/{len}", len - 1)
        } else {
            "200 OK".to_owned()
        };
        let length = body.len();
        let head = format!("HTTP/1.1 {status}\r\n{fields}Content-Length: {length}\r\nConnection: close\r\n\r\n");
        Self { head, body, ..Self::default() }
    }

    /// Cuts the body short of what its head promises.
    pub(super) fn cut(mut self, len: usize) -> Self {
        self.body.truncate(len);
        self
    }
}

/// The running server; it ends when it is dropped.
pub(super) struct OddOrigin {
    pub(super) address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    sent: Arc<Mutex<usize>>,
    task: JoinHandle<()>,
}

impl OddOrigin {
    pub(super) async fn start(answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (asked, sent) = (Arc::<Mutex<Vec<Asked>>>::default(), Arc::<Mutex<usize>>::default());
        let (all, count, answer) = (asked.clone(), sent.clone(), Arc::new(answer));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (all, count, answer) = (all.clone(), count.clone(), answer.clone());
                tokio::spawn(async move {
                    let Some((stream, head)) = read_head(stream).await else { return };
                    let request = {
                        let mut all = all.lock().unwrap();
                        let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
                        let asked = Asked { n: all.len(), target, head, at: Instant::now() };
                        all.push(asked.clone());
                        asked
                    };
                    let answer = answer(&request);
                    *count.lock().unwrap() += answer.body.len();
                    let _ = send(stream, answer).await;
                });
            }
        });
        Self { address, asked, sent, task }
    }

    pub(super) fn url(&self, target: &str) -> String {
        format!("http://{}{target}", self.address)
    }

    pub(super) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// Returns the first bytes of all ranges asked for.
    pub(super) fn starts(&self) -> Vec<usize> {
        self.asked().iter().map(Asked::start).collect()
    }

    /// Returns the bytes of bodies.
    pub(super) fn sent(&self) -> usize {
        *self.sent.lock().unwrap()
    }
}

impl Drop for OddOrigin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn read_head(mut stream: TcpStream) -> Option<(TcpStream, String)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut head).await.ok()? == 0 {
            return None;
        }
    }
    Some((stream, String::from_utf8(head).ok()?))
}

async fn send(mut stream: TcpStream, answer: Answer) -> std::io::Result<()> {
    tokio::time::sleep(answer.delay).await;
    stream.write_all(answer.head.as_bytes()).await?;
    let (first, rest) = answer.body.split_at(answer.body.len() / 2);
    stream.write_all(first).await?;
    tokio::time::sleep(answer.pause).await;
    stream.write_all(rest).await?;
    stream.shutdown().await
}
