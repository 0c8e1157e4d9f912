//! A file server inside a test.

use std::path::Path;

use clap::Parser as _;
use ddm_file_server::{App, ScrubTrigger, config::Cli};
use lifecycle::Shutdown;
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use wire::{ChunkLayout, Digest, FileId, ServerId, server::HeldChunks, token::Token};

use crate::info::{Info, JOIN_SECRET};

pub(crate) struct Node {
    pub(crate) id: ServerId,
    pub(crate) url: String,
    pub(crate) client: Client,
    pub(crate) data: TempDir,
    pub(crate) scrub: ScrubTrigger,
    shutdown: Guard,
    task: JoinHandle<anyhow::Result<()>>,
}

/// A test that fails leaves no server behind.
struct Guard(Shutdown);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.abort();
    }
}

pub(crate) fn arguments(info: &str, data: &Path) -> Vec<String> {
    let data = data.to_str().unwrap();
    ["ddm-file-server", "--listen", "127.0.0.1:0", "--zone", "eu", "--info", info, "--data", data]
        .into_iter()
        // The folders of tests are empty at first.
        .chain(["--join-secret", JOIN_SECRET, "--init"])
        .map(str::to_owned)
        .collect()
}

impl Node {
    pub(crate) async fn start(info: &Info) -> Self {
        Self::start_on(&info.url, tempfile::tempdir().unwrap()).await
    }

    pub(crate) async fn start_on(info: &str, data: TempDir) -> Self {
        Self::start_with(info, data, &[]).await
    }

    /// Starts with further arguments.
    pub(crate) async fn start_with(info: &str, data: TempDir, more: &[String]) -> Self {
        let arguments = [arguments(info, data.path()), more.to_vec()].concat();
        let app = App::build(Cli::parse_from(arguments).config).await.unwrap();
        let scrub = app.scrub_trigger();
        let (id, url, shutdown) = (app.id().clone(), format!("http://{}", app.local_addr()), Guard(Shutdown::new()));
        let task = tokio::spawn(app.run(shutdown.0.clone()));
        Self { id, url, client: client(), data, scrub, shutdown, task }
    }

    /// Returns the path of a complete file.
    pub(crate) fn place(&self, file: FileId) -> std::path::PathBuf {
        let name = file.to_string();
        self.data.path().join("files").join(&name[name.len() - 2..]).join(&name)
    }

    /// Returns the number of partial blobs on its disk.
    pub(crate) fn partial_blobs(&self) -> usize {
        let entries = std::fs::read_dir(self.data.path().join("partial")).unwrap();
        entries.filter(|entry| !entry.as_ref().unwrap().file_name().to_string_lossy().starts_with('.')).count()
    }

    /// Stops the server, and returns its data folder.
    pub(crate) async fn stop(self) -> TempDir {
        drop(self.client);
        self.shutdown.0.finish();
        self.task.await.unwrap().unwrap();
        self.data
    }

    pub(crate) fn get(&self, file: FileId, token: &Token) -> RequestBuilder {
        self.client.get(content(&self.url, file)).bearer_auth(token.expose())
    }

    pub(crate) async fn put(&self, file: FileId, n: u32, token: &Token, bytes: &[u8]) -> Response {
        put(&self.client, &format!("{}/v1/files/{file}/chunks/{n}", self.url), token, bytes).await
    }

    pub(crate) async fn held(&self, file: FileId, token: &Token) -> HeldChunks {
        let url = format!("{}/v1/files/{file}/chunks", self.url);
        let response = self.client.get(url).bearer_auth(token.expose()).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        response.json().await.unwrap()
    }

    /// Returns the content of a file, which must be stored here whole.
    pub(crate) async fn content(&self, info: &Info, file: FileId) -> Vec<u8> {
        let answer = self.get(file, &info.download(file)).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        answer.bytes().await.unwrap().to_vec()
    }

    /// Waits until these bytes are at the place of a complete file.
    pub(crate) async fn until_on_disk(&self, file: FileId, bytes: &[u8]) {
        let place = self.place(file);
        let wait = async {
            while std::fs::read(&place).ok().as_deref() != Some(bytes) {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(40), wait).await.expect("on disk in time");
    }

    /// Waits until the metrics have these lines; each is written without the common prefix.
    pub(crate) async fn until_metrics(&self, lines: &[&str]) {
        let wait = async {
            loop {
                let text = self.metrics().await;
                let has = |line: &&str| text.lines().any(|found| found == format!("ddm_file_server_{line}"));
                if lines.iter().all(has) {
                    return;
                }
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(30), wait).await.expect("counted in time");
    }

    /// Waits until the server stops by itself, and returns its data folder and the reason.
    pub(crate) async fn until_failed(self) -> (TempDir, String) {
        drop(self.client);
        let ended =
            tokio::time::timeout(std::time::Duration::from_secs(30), self.task).await.expect("it stops in time");
        (self.data, format!("{:#}", ended.unwrap().unwrap_err()))
    }

    pub(crate) async fn metrics(&self) -> String {
        self.client.get(format!("{}/metrics", self.url)).send().await.unwrap().text().await.unwrap()
    }

    /// Uploads `bytes` as a new file.
    pub(crate) async fn upload(&self, info: &Info, bytes: &[u8]) -> FileId {
        let file = FileId::new();
        let size = u64::try_from(bytes.len()).unwrap();
        let token = info.upload(file, size, &self.id);
        self.held(file, &token).await;
        let chunk_size = usize::try_from(ChunkLayout::of(size).unwrap().chunk_size()).unwrap();
        for (n, chunk) in (0..).zip(bytes.chunks(chunk_size)) {
            assert_eq!(self.put(file, n, &token, chunk).await.status(), StatusCode::CREATED);
        }
        let held = self.held(file, &token).await;
        assert_eq!(held.root, Some(Digest::root_of(&bytes.chunks(chunk_size).map(Digest::of).collect::<Vec<_>>())));
        // Otherwise a report from before the first chunk would look like one of a removal.
        info.wait_until(|received| received.reports.get(&file).is_some_and(|report| report.root.is_some())).await;
        file
    }
}

pub(crate) fn client() -> Client {
    Client::builder().no_proxy().timeout(std::time::Duration::from_secs(30)).build().unwrap()
}

pub(crate) fn content(url: &str, file: FileId) -> String {
    format!("{url}/v1/files/{file}/content")
}

/// Sends a chunk to its URL.
pub(crate) async fn put(client: &Client, url: &str, token: &Token, bytes: &[u8]) -> Response {
    client
        .put(url)
        .bearer_auth(token.expose())
        .header("content-digest", Digest::of(bytes).to_field())
        .body(bytes.to_vec())
        .send()
        .await
        .unwrap()
}

/// Bytes that do not repeat within a chunk.
pub(crate) fn sample(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    })
    .take(len)
    .collect()
}

/// Waits until the condition holds.
pub(crate) async fn until(condition: impl AsyncFn() -> bool) {
    let wait = async {
        while !condition().await {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), wait).await.expect("in time");
}
