use std::sync::Arc;

use axum::extract::State as Shared;
use http_front::extract::Query;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use wire::ServerId;

use crate::{
    catalogue::orphan::{OrphanCount, OrphanKey, OrphanedFile},
    error::Result,
    http::{
        auth::Admin,
        pagination::{Listed, Page, cursor},
    },
    state::State,
};

const MAX_LIMIT: u32 = 1000;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default)]
pub(crate) struct Asked {
    /// Server whose files are listed.
    server: Option<ServerId>,
    /// Files in the page.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: u32,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
}

impl Default for Asked {
    fn default() -> Self {
        Self { server: None, limit: 100, cursor: None }
    }
}

/// Orphaned files.
#[derive(Serialize, ToSchema)]
pub(crate) struct UnknownFiles {
    /// Number of files of each server, whatever the page shows.
    servers: Vec<OrphanCount>,
    /// One page of them, by server and file.
    files: Vec<OrphanedFile>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// `GET /v1/unknown-files?server=&limit=&cursor=`: the orphaned files, which servers hold and the catalogue does not list, as after
/// the restore of an older backup.
#[utoipa::path(
    get,
    path = "/v1/unknown-files",
    operation_id = "list_unknown",
    tag = "Servers",
    params(Asked), security(("session" = [])),
    responses((status = 200, description = "The number of files of each server, and one page of them", body = UnknownFiles))
)]
pub(crate) async fn list_orphans(
    Shared(state): Shared<Arc<State>>,
    _: Admin,
    Query(asked): Query<Asked>,
) -> Result<axum::Json<UnknownFiles>> {
    let page = Page::new(asked.limit, MAX_LIMIT)?;
    let after = cursor::<OrphanKey>(asked.cursor.as_deref())?;
    let servers = state.db.orphan_counts().await?;
    let files = state.db.orphans(asked.server.as_ref(), after.as_ref(), page.rows_to_read()).await?;
    let Listed { rows: files, next_cursor } = page.cut(files, |last| OrphanKey::from(last))?;
    Ok(axum::Json(UnknownFiles { servers, files, next_cursor }))
}
