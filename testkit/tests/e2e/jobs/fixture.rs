//! An origin, and workers that are played by the test: each of their words to the info-server is the row's own.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use ddm_testkit::{
    cluster::{Cluster, PASSWORD, Plan},
    process::eventually,
};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use wire::{
    ChunkLayout, Digest,
    id::InstanceId,
    token::{Token, TokenKind},
};

use crate::content::{MIB, bytes};

/// Time limit for steps that depend on several processes.
pub(super) const STEP_TIMEOUT: Duration = Duration::from_secs(30);

/// An info-server that may fetch from this machine, without file servers.
pub(super) async fn info_server(more: &[&str]) -> anyhow::Result<Cluster> {
    let allow = ["--origin-allow", "127.0.0.0/8"];
    let tiny: &[&str] = if more.contains(&"--job-min-size") { &[] } else { &["--job-min-size", "1"] };
    let info_args = allow.iter().chain(tiny).chain(more).map(|arg| (*arg).to_owned()).collect();
    Cluster::start(&Plan { info_args, ..Plan::default() }).await
}

/// Answers requests with what a function makes of their heads; ends when it is dropped.
struct Listener {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Listener {
    async fn start(answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (address, answer) = (listener.local_addr()?, Arc::new(answer));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, answer.clone()));
            }
        });
        Ok(Self { address, task })
    }
}

async fn serve<F: Fn(&str) -> Vec<u8>>(mut stream: TcpStream, answer: Arc<F>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < 16 << 10 {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let answer = answer(&String::from_utf8_lossy(&head));
    // The other side may have seen enough.
    let _ = stream.write_all(&answer).await;
    let _ = stream.shutdown().await;
}

/// A web server with one file.
pub(super) struct Origin {
    listener: Listener,
    pub(super) content: Arc<Vec<u8>>,
    requests: Arc<Mutex<usize>>,
    etag: Arc<Mutex<String>>,
}

impl Origin {
    pub(super) async fn start(size: u64) -> anyhow::Result<Self> {
        let content = Arc::new(bytes(7, size));
        let requests = Arc::new(Mutex::new(0));
        let etag = Arc::new(Mutex::new("\"1\"".to_owned()));
        let (served, counted, tag) = (content.clone(), requests.clone(), etag.clone());
        let listener = Listener::start(move |head| {
            *counted.lock().unwrap() += 1;
            respond(&served, head, &tag.lock().unwrap())
        });
        Ok(Self { listener: listener.await?, content, requests, etag })
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}/image.iso?key=secret", self.listener.address)
    }

    /// Requests so far.
    pub(super) fn requests(&self) -> usize {
        *self.requests.lock().unwrap()
    }

    /// Replaces the version that it serves.
    pub(super) fn change(&self) {
        *self.etag.lock().unwrap() = "\"2\"".to_owned();
    }

    /// SHA-256 of the whole, and of each chunk.
    pub(super) fn digests(&self) -> (Digest, Vec<Digest>) {
        let layout = ChunkLayout::of(self.content.len() as u64).unwrap();
        let chunk = |chunk| {
            let bytes = layout.bytes_of(chunk);
            Digest::of(&self.content[bytes.start as usize..bytes.end as usize])
        };
        (Digest::of(&self.content), layout.chunks().map(chunk).collect())
    }
}

fn respond(content: &[u8], head: &str, etag: &str) -> Vec<u8> {
    let field = |name: &str| {
        let lines = head.lines().filter_map(|line| line.split_once(':'));
        lines.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().to_owned())
    };
    let range = field("range").filter(|_| field("if-range").is_none_or(|wanted| wanted == etag));
    let range = range.and_then(|range| {
        let (from, to) = range.strip_prefix("bytes=")?.split_once('-')?;
        Some((from.parse::<usize>().ok()?, to.parse::<usize>().ok()?))
    });
    let size = content.len();
    let (status, part) = match range {
        Some((from, to)) => {
            (format!("206 Partial Content\r\nContent-Range: bytes {from}-{to}/{size}"), &content[from..=to])
        }
        None => ("200 OK".to_owned(), content),
    };
    let mut answer = format!(
        "HTTP/1.1 {status}\r\nETag: {etag}\r\nAccept-Ranges: bytes\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        part.len()
    )
    .into_bytes();
    answer.extend_from_slice(part);
    answer
}

/// A file server, as the info-server sees it.
pub(super) struct Worker {
    pub(super) id: String,
    token: Token,
    instance: InstanceId,
    zone: String,
    listener: Listener,
}

impl Worker {
    /// Enrols one.
    pub(super) async fn enrol(cluster: &Cluster, id: &str, zone: &str) -> anyhow::Result<Self> {
        let instance = InstanceId::new();
        let identity = json!({ "server": id, "instance": instance }).to_string();
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{identity}",
            identity.len()
        );
        let listener = Listener::start(move |_| answer.clone().into_bytes()).await?;
        let token = Token::generate(TokenKind::Server);
        let worker = Self { id: id.to_owned(), token, instance, zone: zone.to_owned(), listener };
        let secret = std::fs::read_to_string(cluster.path("info-server/join-secret"))?;
        worker.beat(cluster, secret.trim()).await?;
        Ok(worker)
    }

    async fn beat(&self, cluster: &Cluster, credential: &str) -> anyhow::Result<()> {
        let url = format!("http://{}", self.listener.address);
        let beat = json!({
            "zone": self.zone, "url": url, "instance": self.instance, "secret_sha256": self.token.hash(),
            "free_bytes": 1_u64 << 40,
        });
        let put = cluster.http.put(format!("{}/v1/servers/{}", cluster.info_url(), self.id));
        let answer: Value = put.bearer_auth(credential).json(&beat).send().await?.error_for_status()?.json().await?;
        ensure!(answer["reachable"] == true, "{answer}");
        Ok(())
    }

    /// Renews its lease.
    pub(super) async fn live(&self, cluster: &Cluster) -> anyhow::Result<()> {
        self.beat(cluster, self.token.expose()).await
    }

    /// Says goodbye.
    pub(super) async fn leave(&self, cluster: &Cluster) -> anyhow::Result<()> {
        self.send(cluster, Method::DELETE, &format!("/v1/servers/{}", self.id), None).await?.error_for_status()?;
        Ok(())
    }

    pub(super) async fn send(
        &self,
        cluster: &Cluster,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> anyhow::Result<Response> {
        let request = cluster.http.request(method, format!("{}{path}", cluster.info_url()));
        let request = request.bearer_auth(self.token.expose());
        let request = if let Some(body) = body { request.json(&body) } else { request };
        Ok(request.send().await?)
    }

    /// Asks for something to do.
    pub(super) async fn ask(&self, cluster: &Cluster, job: &str) -> anyhow::Result<(StatusCode, Value)> {
        let answer = self.send(cluster, Method::POST, &format!("/v1/jobs/{job}/leases"), None).await?;
        Ok((answer.status(), answer.json().await?))
    }

    /// Asks until there is a lease.
    pub(super) async fn claim(&self, cluster: &Cluster, job: &str) -> anyhow::Result<Value> {
        eventually("there is a lease", STEP_TIMEOUT, async || {
            self.live(cluster).await?;
            let (_, claimed) = self.ask(cluster, job).await?;
            Ok(claimed.get("lease").cloned())
        })
        .await
    }

    /// Reports chunks under a lease.
    pub(super) async fn report(
        &self,
        cluster: &Cluster,
        job: &str,
        fence: &Value,
        chunks: &[(u64, Digest)],
    ) -> anyhow::Result<(StatusCode, Value)> {
        let reported: Vec<Value> = chunks.iter().map(|(n, sha256)| json!({ "n": n, "sha256": sha256 })).collect();
        let body = json!({ "chunks": reported, "bytes": chunks.len() as u64 * MIB });
        let answer = self.send(cluster, Method::PUT, &format!("/v1/jobs/{job}/leases/{fence}"), Some(body)).await?;
        Ok((answer.status(), answer.json().await?))
    }

    /// Takes one lease, if there is one, and brings all of it; whether the job goes on.
    pub(super) async fn work(&self, cluster: &Cluster, job: &str, digests: &[Digest]) -> anyhow::Result<bool> {
        self.live(cluster).await?;
        let (status, claimed) = self.ask(cluster, job).await?;
        if status == StatusCode::GONE {
            return Ok(false);
        }
        ensure!(status == StatusCode::OK, "{status} {claimed}");
        if let Some(lease) = claimed.get("lease") {
            let chunks: Vec<(u64, Digest)> = span(lease).map(|n| (n, digests[n as usize])).collect();
            let (status, answer) = self.report(cluster, job, &lease["fence"], &chunks).await?;
            ensure!(status == StatusCode::OK || status == StatusCode::GONE, "{status} {answer}");
        }
        Ok(true)
    }
}

/// The chunks of a lease.
pub(super) fn span(lease: &Value) -> std::ops::Range<u64> {
    lease["span"][0].as_u64().unwrap()..lease["span"][1].as_u64().unwrap()
}

/// Has all workers work until nothing is left to do.
pub(super) async fn work_on(
    cluster: &Cluster,
    job: &str,
    workers: &[&Worker],
    digests: &[Digest],
) -> anyhow::Result<Value> {
    eventually("the job is done", STEP_TIMEOUT, async || {
        for worker in workers {
            worker.work(cluster, job, digests).await?;
        }
        let info = cluster.get(&format!("/v1/jobs/{job}")).await?;
        Ok((info["state"] == "done").then_some(info))
    })
    .await
}

/// Asks for a job; the status and the answer.
pub(super) async fn ask(cluster: &Cluster, token: &str, body: Value) -> anyhow::Result<(StatusCode, Value)> {
    let post = cluster.http.post(format!("{}/v1/jobs", cluster.info_url())).bearer_auth(token).json(&body);
    let answer = post.send().await?;
    Ok((answer.status(), answer.json().await?))
}

/// A job that runs, by its id.
pub(super) async fn job(cluster: &Cluster, body: Value) -> anyhow::Result<Value> {
    let (status, info) = ask(cluster, &cluster.token, body).await?;
    ensure!(status == StatusCode::CREATED, "{status} {info}");
    Ok(info)
}

pub(super) fn id(info: &Value) -> anyhow::Result<String> {
    Ok(info["id"].as_str().context("an id")?.to_owned())
}

/// Returns the status that the holder of a token gets.
pub(super) async fn status(cluster: &Cluster, token: &str, path: &str) -> anyhow::Result<StatusCode> {
    let answer = cluster.http.get(format!("{}{path}", cluster.info_url())).bearer_auth(token).send().await?;
    Ok(answer.status())
}

/// One more account, logged in.
pub(super) async fn somebody(cluster: &Cluster, name: &str) -> anyhow::Result<String> {
    let email = format!("{name}@example.org");
    cluster.user(&["add", &email, "--role", "reader"], Some(PASSWORD)).await?;
    cluster.log_in(&email).await
}
