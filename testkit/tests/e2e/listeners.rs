//! P8, F9, F39, F46, F47, F49, F50, F51: listeners that cannot be held. What both promise is asked of both, over plain sockets.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, ensure};
use ddm_testkit::cluster::{Cluster, Plan};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

mod crowds;
mod documents;
mod draining;
mod framing;
mod names;
mod ranges;
mod waits;

/// A hang ends a test after this long.
const HANG_TIMEOUT: Duration = Duration::from_secs(60);

/// One file server, so that there are two listeners.
async fn pair(args: &[&str]) -> anyhow::Result<Cluster> {
    let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
    let plan = Plan { info_args: args.clone(), file_server_args: args, ..Plan::zones(&["eu"]) };
    Cluster::start(&plan).await
}

/// Returns both listeners, by name.
fn listeners(cluster: &Cluster) -> anyhow::Result<[(&'static str, SocketAddr); 2]> {
    let info = cluster.info.as_ref().context("an info-server")?.address();
    let file_server = cluster.servers[0].process.as_ref().context("a file server")?.address();
    Ok([("info-server", info), ("file-server", file_server)])
}

/// An answer as it came over the wire.
#[derive(Debug)]
struct Answer {
    status: u16,
    fields: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    fn json(&self) -> anyhow::Result<Value> {
        serde_json::from_slice(&self.body).with_context(|| String::from_utf8_lossy(&self.body).into_owned())
    }

    /// Returns true if it is a problem document that names the fault.
    fn is_problem(&self) -> bool {
        let Ok(problem) = self.json() else { return false };
        let word = problem["type"].as_str().is_some_and(|word| word.starts_with("urn:ddm:problem:"));
        let title = problem["title"].as_str().is_some_and(|title| !title.is_empty());
        self.field("content-type") == Some("application/problem+json")
            && problem["status"] == self.status
            && word
            && title
    }
}

/// Sends `bytes` and reads until the server closes.
async fn ask(address: SocketAddr, bytes: &[u8]) -> anyhow::Result<Vec<Answer>> {
    let (mut reading, mut writing) = TcpStream::connect(address).await?.into_split();
    let mut came = Vec::new();
    // The server may answer, and close, before it has taken everything.
    let (_, read) = tokio::join!(
        timeout(HANG_TIMEOUT, writing.write_all(bytes)),
        timeout(HANG_TIMEOUT, reading.read_to_end(&mut came))
    );
    let read = read.with_context(|| format!("not closed after {:?}", String::from_utf8_lossy(&came)))?;
    if let Err(error) = read {
        ensure!(!came.is_empty(), "nothing came: {error}");
    }
    parse(&came)
}

fn parse(mut bytes: &[u8]) -> anyhow::Result<Vec<Answer>> {
    let mut answers = Vec::new();
    while !bytes.is_empty() {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").context("a head")?;
        let head = std::str::from_utf8(&bytes[..end])?;
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).context("a status")?.parse()?;
        let fields: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let rest = &bytes[end + 4..];
        let length = fields.iter().find(|(name, _)| name == "content-length").map_or(Ok(0), |(_, n)| n.parse())?;
        ensure!(rest.len() >= length, "{head}: {} of {length} bytes", rest.len());
        answers.push(Answer { status, fields, body: rest[..length].to_vec() });
        bytes = &rest[length..];
    }
    Ok(answers)
}

/// A request after which the server closes.
fn last(method: &str, target: &str, fields: &str, body: &str) -> String {
    format!("{method} {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{fields}\r\n{body}")
}

/// Lets this process open as many sockets as it may.
fn many_sockets() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
}
