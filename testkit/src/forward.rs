//! A forward proxy, as it stands between many machines and the web: `CONNECT` for what is encrypted, a whole URL in the first
//! line for the rest (RFC 9110 §9.3.6, RFC 9112 §3.2.2). It resolves hosts that no resolver lists.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use crate::accept::accept;

/// The longest request head that is read.
const MAX_HEAD: usize = 64 << 10;
/// Bytes passed on at a time.
const BUFFER: usize = 64 << 10;

/// A running forward proxy; it ends with all its connections when it is dropped.
#[derive(Debug)]
pub struct Forward {
    address: SocketAddr,
    state: Arc<State>,
    task: JoinHandle<()>,
}

/// Address to which requests for a host (`name:port`) go.
#[derive(Debug, Clone, Copy)]
pub struct Route<'a> {
    /// The host with its port.
    pub host: &'a str,
    /// The address behind it.
    pub address: SocketAddr,
}

/// User of a forward proxy.
#[derive(Debug, Clone, Copy)]
pub struct Login<'a> {
    /// The user's name.
    pub name: &'a str,
    /// The password.
    pub password: &'a str,
}

/// A request that was passed on, or a tunnel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passed {
    /// `CONNECT`, or what was asked of the host.
    pub method: String,
    /// The host with its port.
    pub host: String,
    /// Bytes that came back from there so far.
    pub bytes: u64,
}

#[derive(Debug, Default)]
struct State {
    routes: BTreeMap<String, SocketAddr>,
    credentials: Option<String>,
    passed: Mutex<Vec<Passed>>,
}

impl Forward {
    /// Leads to these hosts (`name:port`) and to no other. With a user's name and password it serves no other user.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn start(routes: &[Route<'_>], user: Option<Login<'_>>) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let routes = routes.iter().map(|route| (route.host.to_owned(), route.address)).collect();
        let credentials = user.map(|Login { name, password }| BASE64_STANDARD.encode(format!("{name}:{password}")));
        let state = Arc::new(State { routes, credentials, passed: Mutex::default() });
        let task = accept(listener, Arc::clone(&state), serve);
        Ok(Self { address, state, task })
    }

    /// Returns the address it listens on.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the requests passed on so far, in order.
    pub fn passed(&self) -> Vec<Passed> {
        self.state.passed().clone()
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl State {
    fn passed(&self) -> MutexGuard<'_, Vec<Passed>> {
        self.passed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves one connection: a tunnel, or one request. What is asked for comes with `Connection: close`.
async fn serve(mut client: TcpStream, state: Arc<State>) -> io::Result<()> {
    let Some(head) = read_head(&mut client).await? else { return Ok(()) };
    let Some(asked) = Asked::parse(&head) else { return refuse(&mut client, "400 Bad Request").await };
    if state.credentials.is_some() && state.credentials.as_deref() != asked.credentials {
        return refuse(&mut client, "407 Proxy Authentication Required\r\nProxy-Authenticate: Basic").await;
    }
    let Some(address) = state.routes.get(&asked.host) else { return refuse(&mut client, "502 Bad Gateway").await };
    let mut host = TcpStream::connect(address).await?;
    let entry = {
        let mut passed = state.passed();
        passed.push(Passed { method: asked.method.to_owned(), host: asked.host.clone(), bytes: 0 });
        passed.len() - 1
    };
    if asked.method == "CONNECT" {
        client.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").await?;
    } else {
        host.write_all(asked.rewritten().as_bytes()).await?;
    }
    let ((mut from_client, mut to_client), (mut from_host, mut to_host)) = (client.split(), host.split());
    let up = async {
        copy(&mut from_client, &mut to_host).await?;
        to_host.shutdown().await
    };
    let down = async {
        let mut buffer = vec![0; BUFFER];
        loop {
            let read = from_host.read(&mut buffer).await?;
            if read == 0 {
                return to_client.shutdown().await;
            }
            to_client.write_all(buffer.get(..read).unwrap_or_default()).await?;
            if let Some(passed) = state.passed().get_mut(entry) {
                passed.bytes += u64::try_from(read).unwrap_or(0);
            }
        }
    };
    tokio::try_join!(up, down).map(drop)
}

async fn refuse(client: &mut TcpStream, status: &str) -> io::Result<()> {
    client.write_all(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").as_bytes()).await
}

async fn read_head(client: &mut TcpStream) -> io::Result<Option<String>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        // One by one: what follows a CONNECT is the tunnel's.
        let byte = client.read_u8().await?;
        head.push(byte);
        if head.len() > MAX_HEAD {
            return Ok(None);
        }
    }
    Ok(String::from_utf8(head).ok())
}

/// The head of a request to a proxy.
struct Asked<'a> {
    method: &'a str,
    host: String,
    path: &'a str,
    fields: Vec<&'a str>,
    credentials: Option<&'a str>,
}

impl<'a> Asked<'a> {
    fn parse(head: &'a str) -> Option<Self> {
        let mut lines = head.trim_end().lines();
        let mut first = lines.next()?.split(' ');
        let (method, target) = (first.next()?, first.next()?);
        let (host, path) = if method == "CONNECT" {
            (target.to_owned(), "")
        } else {
            let rest = target.strip_prefix("http://")?;
            let (host, path) = rest.split_at(rest.find('/')?);
            (if host.contains(':') { host.to_owned() } else { format!("{host}:80") }, path)
        };
        let named =
            |line: &'a str| line.split_once(':').filter(|(key, _)| key.eq_ignore_ascii_case("proxy-authorization"));
        let mut fields: Vec<&str> = lines.collect();
        let credentials = fields.iter().find_map(|line| named(line)?.1.trim().strip_prefix("Basic "));
        fields.retain(|line| !line.to_ascii_lowercase().starts_with("proxy-"));
        Some(Self { method, host, path, fields, credentials })
    }

    /// Returns the head of the request to the host itself.
    fn rewritten(&self) -> String {
        let fields: String = self.fields.iter().map(|field| format!("{field}\r\n")).collect();
        format!("{} {} HTTP/1.1\r\n{fields}Connection: close\r\n\r\n", self.method, self.path)
    }
}
