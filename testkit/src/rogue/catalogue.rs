//! A faulty info-server: it sends the answers of a test's script, whatever the request.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use super::read_head;
use crate::accept::accept;

/// Statement that the faulty catalogue returns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScriptedAnswer {
    /// A status and a JSON text.
    Json(u16, String),
    /// Status 200 and this text, repeated until the client disconnects.
    Endless(String),
    /// Nothing at all.
    Silence,
    /// A redirect to this address.
    Elsewhere(String),
}

/// A running rogue info-server; it ends with all its connections when it is dropped.
#[derive(Debug)]
pub struct RogueInfoServer {
    address: SocketAddr,
    script: Arc<Script>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Script {
    answers: Mutex<BTreeMap<String, ScriptedAnswer>>,
    requests: Mutex<Vec<String>>,
}

impl RogueInfoServer {
    /// Starts on a free port of the loopback; a path without a script is 404.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let script = Arc::new(Script::default());
        let task = accept(listener, Arc::clone(&script), answer);
        Ok(Self { address, script, task })
    }

    /// Its base address.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Sets the answer to requests for `path` from now on, whatever their method and query.
    pub fn respond(&self, path: &str, answer: ScriptedAnswer) {
        self.script.answers.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned(), answer);
    }

    /// Returns the method and path of every request so far.
    pub fn requests(&self) -> Vec<String> {
        self.script.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for RogueInfoServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Answers one request, and closes.
async fn answer(mut stream: TcpStream, script: Arc<Script>) -> io::Result<()> {
    let Some(head) = read_head(&mut stream).await? else { return Ok(()) };
    let line = head.lines().next().unwrap_or_default();
    let (method, target) = line.split_once(' ').unwrap_or_default();
    let path = target.split([' ', '?']).next().unwrap_or_default();
    script.requests.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{method} {path}"));
    let answer = script.answers.lock().unwrap_or_else(PoisonError::into_inner).get(path).cloned();
    match answer {
        None => {
            let problem = r#"{"type":"about:blank","title":"There is no such file","status":404}"#;
            json(&mut stream, 404, problem).await
        }
        Some(ScriptedAnswer::Json(status, text)) => json(&mut stream, status, &text).await,
        Some(ScriptedAnswer::Silence) => std::future::pending().await,
        Some(ScriptedAnswer::Elsewhere(to)) => {
            let head = format!("HTTP/1.1 307 x\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            stream.write_all(head.as_bytes()).await
        }
        Some(ScriptedAnswer::Endless(text)) => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n").await?;
            loop {
                stream.write_all(text.as_bytes()).await?;
            }
        }
    }
}

async fn json(stream: &mut TcpStream, status: u16, text: &str) -> io::Result<()> {
    let head = format!(
        "HTTP/1.1 {status} x\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        text.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(text.as_bytes()).await?;
    stream.shutdown().await
}
