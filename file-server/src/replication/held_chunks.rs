//! The chunks that another file server holds.

use std::time::Duration;

use reqwest::{Client, StatusCode};
use url::Url;
use wire::{ChunkSet, server::HeldChunks, token::Token};

const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest answer, in bytes.
const MAX_ANSWER_LEN: usize = 4 << 20;

/// Returns the chunks of a file that a server holds, given the URL of the file's content there. None when it gives no usable answer.
pub(super) async fn held_chunks(client: &Client, content: &Url, token: &Token) -> Option<ChunkSet> {
    let url = content.join("chunks").ok()?;
    let mut answer = client.get(url).timeout(ANSWER_TIMEOUT).bearer_auth(token.expose()).send().await.ok()?;
    match answer.status() {
        StatusCode::NOT_FOUND => return Some(ChunkSet::new()),
        status if !status.is_success() => return None,
        _ => {}
    }
    let mut body = Vec::new();
    while let Some(part) = answer.chunk().await.ok()? {
        if body.len() + part.len() > MAX_ANSWER_LEN {
            return None;
        }
        body.extend_from_slice(&part);
    }
    serde_json::from_slice(&body).ok().map(|held: HeldChunks| held.runs)
}
