use std::{sync::Arc, time::Instant};

use axum::extract::State as Shared;
use http_front::extract::Query;
use serde::Deserialize;
use utoipa::IntoParams;
use wire::{FileId, catalogue::FileList};

use crate::{
    catalogue::{
        file::{File, summary},
        search::FileQuery,
    },
    error::{Result, invalid},
    http::{
        auth::SignedInUser,
        pagination::{Listed, Page, cursor},
    },
    state::State,
};

const DEFAULT_LIMIT: u32 = 50;
const MAX_LIMIT: u32 = 500;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default)]
pub(crate) struct Asked {
    /// Text that the names of the listed files contain.
    q: String,
    /// Files in the page.
    #[param(minimum = 1, maximum = 500, default = 50)]
    limit: u32,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
    /// Beginning of the ids of the listed files.
    #[param(max_length = 36, pattern = "^[0-9a-f-]*$")]
    id: String,
    /// Size of the listed files in bytes; lists only published ones, without those that jobs made.
    size: Option<u64>,
}

impl Default for Asked {
    fn default() -> Self {
        Self { q: String::new(), limit: DEFAULT_LIMIT, cursor: None, id: String::new(), size: None }
    }
}

/// `GET /v1/files?q=&limit=&cursor=&id=&size=`: newest first, names that contain `q`.
#[utoipa::path(
    get,
    path = "/v1/files",
    tag = "Files",
    params(Asked), security(("session" = [])),
    responses((status = 200, description = "One page, newest first", body = FileList))
)]
pub(crate) async fn list_files(
    Shared(state): Shared<Arc<State>>,
    caller: SignedInUser,
    Query(asked): Query<Asked>,
) -> Result<axum::Json<FileList>> {
    let page = Page::new(asked.limit, MAX_LIMIT)?;
    let before = cursor::<FileId>(asked.cursor.as_deref())?;
    let ids = asked.id.parse().map_err(|_| invalid("id must be the beginning of an id, in lower case"))?;
    let query = FileQuery { part: &asked.q, viewer: caller.viewer(), before, ids, size: asked.size };
    let rows = state.db.files(&query, page.rows_to_read()).await?;
    let Listed { rows, next_cursor } = page.cut(rows, |file| file.id)?;
    let ids: Vec<FileId> = rows.iter().map(|file| file.id).collect();
    let (holders, disputed) = (state.db.complete_holders(&ids).await?, state.db.disputed(&ids).await?);
    let (registry, now) = (state.registry(), Instant::now());
    let live_of = |id: &FileId| {
        let holders = holders.get(id).into_iter().flatten();
        u32::try_from(holders.filter(|server| registry.serves(server, now)).count()).unwrap_or(u32::MAX)
    };
    let summary_of = |file: File| {
        let (live, is_disputed) = (live_of(&file.id), disputed.contains(&file.id));
        summary(file, live, is_disputed)
    };
    let files = rows.into_iter().map(summary_of).collect();
    Ok(axum::Json(FileList { files, next_cursor }))
}
