use std::{sync::Arc, time::Instant};

use axum::extract::State as Shared;
use lifecycle::http::Query;
use serde::Deserialize;
use utoipa::IntoParams;
use wire::{FileId, catalog::FileList};

use crate::{
    app::State,
    caller::Reader,
    catalogue::summary,
    error::{Result, invalid},
    store::accounts::Role,
};

const DEFAULT_LIMIT: u32 = 50;
const MAX_LIMIT: u32 = 500;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default)]
pub(super) struct Page {
    /// Only names that contain this.
    q: String,
    /// Files in the page.
    #[param(minimum = 1, maximum = 500, default = 50)]
    limit: u32,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
}

impl Default for Page {
    fn default() -> Self {
        Self { q: String::new(), limit: DEFAULT_LIMIT, cursor: None }
    }
}

/// `GET /v1/files?q=&limit=&cursor=`: newest first, names that contain `q`.
#[utoipa::path(
    get,
    path = "/v1/files",
    tag = "Files",
    params(Page), security(("session" = [])),
    responses((status = 200, description = "One page, newest first", body = FileList))
)]
pub(super) async fn list_files(
    Shared(state): Shared<Arc<State>>,
    Reader { user, .. }: Reader,
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
    // One more than asked tells whether there is a next page.
    let viewer = (user.role < Role::Admin).then_some(user.id);
    let mut rows = state.store.files((&page.q, viewer), before, page.limit + 1).await?;
    let asked = usize::try_from(page.limit)?;
    let more = rows.len() > asked;
    rows.truncate(asked);
    let next_cursor = rows.last().filter(|_| more).map(|file| file.id.to_string());
    let holders = state.store.holders(&rows.iter().map(|file| file.id).collect::<Vec<_>>()).await?;
    let (registry, now) = (state.registry(), Instant::now());
    let live_of = |id: &FileId| {
        let holders = holders.get(id).into_iter().flatten();
        u32::try_from(holders.filter(|server| registry.serves(server, now)).count()).unwrap_or(u32::MAX)
    };
    let files =
        rows.into_iter().map(|file| (live_of(&file.id), file)).map(|(live, file)| summary(file, live)).collect();
    Ok(axum::Json(FileList { files, next_cursor }))
}
