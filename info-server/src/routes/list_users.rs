use std::sync::Arc;

use axum::extract::State as Shared;
use lifecycle::http::Query;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::{
    app::State,
    caller::Admin,
    error::{Result, invalid},
    store::accounts::Account,
};

const MAX_LIMIT: u32 = 500;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default)]
pub(super) struct Page {
    /// Rows in the page.
    #[param(minimum = 1, maximum = 500, default = 100)]
    limit: u32,
    /// The `next_cursor` of the page before.
    cursor: i64,
}

impl Default for Page {
    fn default() -> Self {
        Self { limit: 100, cursor: 0 }
    }
}

#[derive(Serialize, ToSchema)]
pub(super) struct Accounts {
    users: Vec<Account>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// `GET /v1/users?limit=&cursor=`: oldest first.
#[utoipa::path(
    get,
    path = "/v1/users",
    tag = "Accounts",
    params(Page), security(("session" = [])),
    responses((status = 200, description = "One page, oldest first", body = Accounts))
)]
pub(super) async fn list_users(
    Shared(state): Shared<Arc<State>>,
    _: Admin,
    Query(page): Query<Page>,
) -> Result<axum::Json<Accounts>> {
    if !(1..=MAX_LIMIT).contains(&page.limit) {
        return Err(invalid(format!("limit must be between 1 and {MAX_LIMIT}")));
    }
    // One more than asked tells whether there is a next page.
    let mut users = state.store.accounts(page.cursor, page.limit + 1).await?;
    let asked = usize::try_from(page.limit)?;
    let more = users.len() > asked;
    users.truncate(asked);
    let next_cursor = users.last().filter(|_| more).map(|user| user.id.to_string());
    Ok(axum::Json(Accounts { users, next_cursor }))
}
