use std::sync::Arc;

use axum::extract::State as Shared;
use lifecycle::http::Query;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use wire::{FileId, ServerId};

use crate::{
    app::State,
    caller::Admin,
    error::{Result, invalid},
    store::unknown::{Unknown, UnknownCount},
};

const MAX_LIMIT: u32 = 1000;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default)]
pub(super) struct Page {
    /// Only files of this server.
    server: Option<ServerId>,
    /// Files in the page.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: u32,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
}

impl Default for Page {
    fn default() -> Self {
        Self { server: None, limit: 100, cursor: None }
    }
}

/// Files that servers hold and the catalogue does not know.
#[derive(Serialize, ToSchema)]
pub(super) struct UnknownFiles {
    /// How many each server holds, whatever the page shows.
    servers: Vec<UnknownCount>,
    /// One page of them, by server and file.
    files: Vec<Unknown>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// `GET /v1/unknown-files?server=&limit=&cursor=`: what servers hold that the catalogue does not know, as after the restore of an
/// older backup.
#[utoipa::path(
    get,
    path = "/v1/unknown-files",
    tag = "Servers",
    params(Page), security(("session" = [])),
    responses((status = 200, description = "How many each server holds, and one page of them", body = UnknownFiles))
)]
pub(super) async fn list_unknown(
    Shared(state): Shared<Arc<State>>,
    _: Admin,
    Query(page): Query<Page>,
) -> Result<axum::Json<UnknownFiles>> {
    if !(1..=MAX_LIMIT).contains(&page.limit) {
        return Err(invalid(format!("limit must be between 1 and {MAX_LIMIT}")));
    }
    let after = match page.cursor.as_deref() {
        None | Some("") => None,
        Some(text) => {
            Some(read_cursor(text).ok_or_else(|| invalid("cursor must be the next_cursor of the page before"))?)
        }
    };
    let servers = state.store.unknown_counts().await?;
    let mut files = state.store.unknown(page.server.as_ref(), after.as_ref(), page.limit + 1).await?;
    let asked = usize::try_from(page.limit)?;
    let more = files.len() > asked;
    files.truncate(asked);
    let next_cursor = files.last().filter(|_| more).map(|last| format!("{}/{}", last.server, last.file));
    Ok(axum::Json(UnknownFiles { servers, files, next_cursor }))
}

fn read_cursor(text: &str) -> Option<(ServerId, FileId)> {
    let (server, file) = text.split_once('/')?;
    Some((server.parse().ok()?, file.parse().ok()?))
}
