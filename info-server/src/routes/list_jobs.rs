use std::{ops::Bound, sync::Arc};

use axum::extract::State as Shared;
use lifecycle::http::Query;
use serde::Deserialize;
use utoipa::IntoParams;
use wire::{JobId, job::JobList};

use super::show_job::zones;
use crate::{
    app::State,
    caller::Reader,
    error::{Error, Result, invalid},
    store::accounts::Role,
};

const DEFAULT_LIMIT: u32 = 50;
const MAX_LIMIT: u32 = 200;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default)]
pub(super) struct Page {
    /// Jobs in the page.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: u32,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
    /// Those of everybody, for admins.
    all: bool,
}

impl Default for Page {
    fn default() -> Self {
        Self { limit: DEFAULT_LIMIT, cursor: None, all: false }
    }
}

/// `GET /v1/jobs?limit=&cursor=&all=`: the caller's jobs, newest first.
#[utoipa::path(
    get,
    path = "/v1/jobs",
    tag = "Jobs",
    params(Page), security(("session" = [])),
    responses((status = 200, description = "One page, newest first", body = JobList))
)]
pub(super) async fn list_jobs(
    Shared(state): Shared<Arc<State>>,
    Reader { user, .. }: Reader,
    Query(page): Query<Page>,
) -> Result<axum::Json<JobList>> {
    if !(1..=MAX_LIMIT).contains(&page.limit) {
        return Err(invalid(format!("limit must be between 1 and {MAX_LIMIT}")));
    }
    if page.all && user.role < Role::Admin {
        return Err(Error::Forbidden("only an admin lists everybody's jobs"));
    }
    let before = match page.cursor.as_deref() {
        None | Some("") => None,
        Some(text) => {
            Some(text.parse::<JobId>().map_err(|_| invalid("cursor must be the next_cursor of the page before"))?)
        }
    };
    let (zones, limit, all) = (zones(&state), usize::try_from(page.limit)?, page.all);
    let listed = state.jobs.act(move |board, now| {
        let upper = before.map_or(Bound::Unbounded, Bound::Excluded);
        let own = board.jobs.range((Bound::Unbounded, upper)).rev().map(|(_, job)| job);
        let own = own.filter(|job| all || job.is_asker(user.id));
        // One more than asked tells whether there is a next page.
        own.take(limit + 1).map(|job| job.info(now.at, &|server| zones.get(server).cloned())).collect::<Vec<_>>()
    });
    let mut jobs = listed.await?;
    let more = jobs.len() > limit;
    jobs.truncate(limit);
    let next_cursor = jobs.last().filter(|_| more).map(|job| job.id.to_string());
    Ok(axum::Json(JobList { jobs, next_cursor }))
}
