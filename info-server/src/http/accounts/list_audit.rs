use std::sync::Arc;

use axum::extract::State as Shared;
use http_front::extract::Query;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::{
    accounts::audit::{AuditKind, AuditRecord},
    error::Result,
    http::{
        auth::Admin,
        pagination::{Listed, Page},
    },
    state::State,
};

const MAX_LIMIT: u32 = 1000;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default)]
pub(crate) struct Asked {
    /// Rows in the page.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: u32,
    /// The `next_cursor` of the page before.
    cursor: Option<u64>,
    /// Kind of the entries to list.
    #[param(inline)]
    kind: Option<AuditKind>,
}

impl Default for Asked {
    fn default() -> Self {
        Self { limit: 100, cursor: None, kind: None }
    }
}

#[derive(Serialize, ToSchema)]
pub(crate) struct AuditLog {
    entries: Vec<AuditRecord>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// `GET /v1/audit?cursor=&limit=&kind=`: the audit log, newest first.
#[utoipa::path(
    get,
    path = "/v1/audit",
    tag = "Accounts",
    params(Asked), security(("session" = [])),
    responses((status = 200, description = "One page, newest first", body = AuditLog))
)]
pub(crate) async fn list_audit(
    Shared(state): Shared<Arc<State>>,
    _: Admin,
    Query(asked): Query<Asked>,
) -> Result<axum::Json<AuditLog>> {
    let page = Page::new(asked.limit, MAX_LIMIT)?;
    // The answer has what was counted up to now.
    state.login_failures.flush(&state.db).await?;
    let entries = state.db.audit(asked.cursor, page.rows_to_read(), asked.kind).await?;
    let Listed { rows: entries, next_cursor } = page.cut(entries, |entry| entry.id)?;
    Ok(axum::Json(AuditLog { entries, next_cursor }))
}
