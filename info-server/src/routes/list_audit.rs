use std::sync::Arc;

use axum::extract::State as Shared;
use lifecycle::http::Query;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::{
    app::State,
    caller::Admin,
    error::{Result, invalid},
    store::audit::{Entry, Kind},
};

const MAX_LIMIT: u32 = 1000;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default)]
pub(super) struct Page {
    /// Rows in the page.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: u32,
    /// The `next_cursor` of the page before.
    cursor: Option<u64>,
    /// Only these.
    kind: Option<Kind>,
}

impl Default for Page {
    fn default() -> Self {
        Self { limit: 100, cursor: None, kind: None }
    }
}

#[derive(Serialize, ToSchema)]
pub(super) struct AuditLog {
    entries: Vec<Entry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// `GET /v1/audit?cursor=&limit=&kind=`: who did what, newest first.
#[utoipa::path(
    get,
    path = "/v1/audit",
    tag = "Accounts",
    params(Page), security(("session" = [])),
    responses((status = 200, description = "One page, newest first", body = AuditLog))
)]
pub(super) async fn list_audit(
    Shared(state): Shared<Arc<State>>,
    _: Admin,
    Query(page): Query<Page>,
) -> Result<axum::Json<AuditLog>> {
    if !(1..=MAX_LIMIT).contains(&page.limit) {
        return Err(invalid(format!("limit must be between 1 and {MAX_LIMIT}")));
    }
    // Whoever looks sees what was counted up to now.
    state.tally.write_down(&state.store).await?;
    let mut entries = state.store.audit(page.cursor, page.limit + 1, page.kind).await?;
    let asked = usize::try_from(page.limit)?;
    let more = entries.len() > asked;
    entries.truncate(asked);
    let next_cursor = entries.last().filter(|_| more).map(|entry| entry.id.to_string());
    Ok(axum::Json(AuditLog { entries, next_cursor }))
}
