use std::sync::Arc;

use axum::extract::State as Shared;
use lifecycle::http::Query;
use serde::Deserialize;
use wire::{
    FileId,
    catalog::{FileList, FileSummary},
};

use crate::{
    app::State,
    caller::Reader,
    error::{Result, invalid},
    store::files::File,
};

const DEFAULT_LIMIT: u32 = 50;
const MAX_LIMIT: u32 = 500;

#[derive(Deserialize)]
#[serde(default)]
pub(super) struct Page {
    q: String,
    limit: u32,
    cursor: Option<String>,
}

impl Default for Page {
    fn default() -> Self {
        Self { q: String::new(), limit: DEFAULT_LIMIT, cursor: None }
    }
}

/// `GET /v1/files?q=&limit=&cursor=`: newest first, names that contain `q`.
pub(super) async fn list_files(
    Shared(state): Shared<Arc<State>>,
    _: Reader,
    Query(page): Query<Page>,
) -> Result<axum::Json<FileList>> {
    if !(1..=MAX_LIMIT).contains(&page.limit) {
        return Err(invalid(format!("limit must be between 1 and {MAX_LIMIT}")));
    }
    let before = match page.cursor.as_deref() {
        None | Some("") => None,
        Some(text) => {
            Some(text.parse::<FileId>().map_err(|_| invalid("cursor must be the next_cursor of the page before"))?)
        }
    };
    let live: Vec<_> = state.live().into_iter().map(|server| server.id).collect();
    // One more than asked tells whether there is a next page.
    let mut rows = state.store.files(&page.q, before, page.limit + 1, &live).await?;
    let asked = usize::try_from(page.limit)?;
    let more = rows.len() > asked;
    rows.truncate(asked);
    let next_cursor = rows.last().filter(|_| more).map(|(file, _)| file.id.to_string());
    let files = rows.into_iter().map(|(file, live_replicas)| summary(file, live_replicas)).collect();
    Ok(axum::Json(FileList { files, next_cursor }))
}

/// A catalogue entry as users see it.
pub(super) fn summary(file: File, live_replicas: u32) -> FileSummary {
    FileSummary {
        id: file.id,
        name: file.name,
        size: file.layout.size(),
        sha256: file.content.map(|content| content.sha256),
        chunk_size: file.layout.chunk_size(),
        state: file.state,
        media_type: file.media_type,
        created_at: file.created_at,
        live_replicas,
    }
}
