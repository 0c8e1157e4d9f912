use std::sync::Arc;

use axum::extract::State as Shared;
use http_front::extract::Query;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use wire::account::Account;

use crate::{
    error::Result,
    http::{
        auth::Admin,
        pagination::{Listed, Page},
    },
    state::State,
};

const MAX_LIMIT: u32 = 500;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default)]
pub(crate) struct Asked {
    /// Rows in the page.
    #[param(minimum = 1, maximum = 500, default = 100)]
    limit: u32,
    /// The `next_cursor` of the page before.
    cursor: i64,
}

impl Default for Asked {
    fn default() -> Self {
        Self { limit: 100, cursor: 0 }
    }
}

#[derive(Serialize, ToSchema)]
pub(crate) struct Accounts {
    users: Vec<Account>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// `GET /v1/users?limit=&cursor=`: oldest first.
#[utoipa::path(
    get,
    path = "/v1/users",
    tag = "Accounts",
    params(Asked), security(("session" = [])),
    responses((status = 200, description = "One page, oldest first", body = Accounts))
)]
pub(crate) async fn list_users(
    Shared(state): Shared<Arc<State>>,
    _: Admin,
    Query(asked): Query<Asked>,
) -> Result<axum::Json<Accounts>> {
    let page = Page::new(asked.limit, MAX_LIMIT)?;
    let users = state.db.accounts(asked.cursor, page.rows_to_read()).await?;
    let Listed { rows: users, next_cursor } = page.cut(users, |user| user.id)?;
    Ok(axum::Json(Accounts { users, next_cursor }))
}
