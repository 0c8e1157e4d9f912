//! A joint download from an info-server that answers about one empty file.

use axum::{Json, Router, routing::get};
use clap::Parser as _;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use wire::{
    RequesterId,
    token::{Token, TokenKind},
};

use super::*;
use crate::cli::{Command, CommandLine, UrlOptions, with_default_command};

const JOB_FILE_ID: &str = "01890a5d-ac96-774b-bcce-b302099a8058";
const CREATED_AT: &str = "2026-01-01T00:00:00Z";

/// Starts an info-server whose file has no chunk: it is fetched at once.
async fn info_server() -> UserClient {
    let token = Token::generate(TokenKind::Download);
    let details = json!({
        "id": JOB_FILE_ID, "name": "x.bin", "size": 0, "sha256": null, "chunk_size": 1 << 20, "state": "uploading",
        "created_at": CREATED_AT, "live_replicas": 0, "root": null, "locations": [],
        "download": { "token": token.expose(), "token_id": JOB_FILE_ID, "expires_at": "2100-01-01T00:00:00Z" },
    });
    let manifest =
        json!({ "file": JOB_FILE_ID, "size": 0, "chunk_size": 1 << 20, "sha256": null, "root": null, "chunks": [] });
    let answer = |body: Value| get(move || std::future::ready(Json(body)));
    let router =
        Router::new().route("/v1/files/{id}", answer(details)).route("/v1/files/{id}/manifest", answer(manifest));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    UserClient::new(base, transfer::source::client_builder().build().unwrap(), None)
}

fn job(generation: u32) -> JobInfo {
    serde_json::from_value(json!({
        "id": "01890a5d-ac96-774b-bcce-b302099a8057", "url": "https://example.org/x.bin", "name": "x.bin",
        "state": "running", "file": JOB_FILE_ID, "size": 0, "chunk_size": 1 << 20, "generation": generation, "connections": 1,
        "start_at": CREATED_AT, "created_at": CREATED_AT, "keep": false, "chunks": 0, "fetched": 0, "workers": [], "askers": 1,
    }))
    .unwrap()
}

fn request(folder: &std::path::Path) -> (Context, DownloadRequest) {
    let folder = folder.to_str().unwrap();
    let line = ["ddm-client", "--wait", "5s", "-o", folder, "https://example.org/x.bin"].map(Into::into).to_vec();
    let line = CommandLine::parse_from(with_default_command(line).unwrap());
    let Command::Fetch(fetch) = line.command else { panic!("it is another command") };
    let UrlOptions { sha256, origin, .. } = fetch.url;
    let url = fetch.urls.into_iter().next().unwrap();
    let request =
        DownloadRequest { url, options: fetch.options, sha256, keep: false, requester: RequesterId::new(), origin };
    (Context::new(line.common, CancellationToken::new()), request)
}

#[tokio::test]
async fn digests_withdrawn_between_fetch_and_verification_are_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let (context, request) = request(folder.path());
    let (progress, _notices) = Progress::new();
    let follower = JobFollower::start(info_server().await, None, job(0), progress.clone());
    let download = JobDownload {
        context: &context,
        request: &request,
        display: Display::Quiet,
        monitor: Arc::clone(&follower.monitor),
        progress,
        started: Instant::now(),
        has_begun: AtomicBool::new(true),
    };
    let fetched = download.fetch_chunks(&mut None).await.unwrap().expect("all chunks are here");
    download.monitor.update(|view| view.apply_job(job(1)));
    assert!(matches!(download.verify(&fetched).await, Ok(Verification::DigestsWithdrawn)));
}
