use std::sync::Arc;

use axum::extract::State as Shared;
use http_front::extract::Query;
use serde::Deserialize;
use utoipa::IntoParams;
use wire::{JobId, account::Role, job::JobList};

use super::job_caller::server_zones;
use crate::{
    error::{Error, Result},
    http::{
        auth::SignedInUser,
        pagination::{Listed, Page, cursor},
    },
    jobs::coordinator::queries::{JobViewer, PageQuery},
    state::State,
};

const DEFAULT_LIMIT: u32 = 50;
const MAX_LIMIT: u32 = 200;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default)]
pub(crate) struct Asked {
    /// Jobs in the page.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: u32,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
    /// The jobs of all accounts, for admins.
    all: bool,
}

impl Default for Asked {
    fn default() -> Self {
        Self { limit: DEFAULT_LIMIT, cursor: None, all: false }
    }
}

/// `GET /v1/jobs?limit=&cursor=&all=`: the caller's jobs, newest first.
#[utoipa::path(
    get,
    path = "/v1/jobs",
    tag = "Jobs",
    params(Asked), security(("session" = [])),
    responses((status = 200, description = "One page, newest first", body = JobList))
)]
pub(crate) async fn list_jobs(
    Shared(state): Shared<Arc<State>>,
    SignedInUser { user, .. }: SignedInUser,
    Query(asked): Query<Asked>,
) -> Result<axum::Json<JobList>> {
    let page = Page::new(asked.limit, MAX_LIMIT)?;
    if asked.all && user.role < Role::Admin {
        return Err(Error::Forbidden("only an admin may list the jobs of all accounts"));
    }
    let before = cursor::<JobId>(asked.cursor.as_deref())?;
    let viewer = if asked.all { JobViewer::Admin } else { JobViewer::Account(user.id) };
    let query = PageQuery { viewer, before, limit: usize::try_from(page.rows_to_read())? };
    let jobs = state.jobs.page(query, server_zones(&state)).await?;
    let Listed { rows: jobs, next_cursor } = page.cut(jobs, |job| job.id)?;
    Ok(axum::Json(JobList { jobs, next_cursor }))
}
