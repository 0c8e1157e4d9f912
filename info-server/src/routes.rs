//! Everything this server answers, grouped by who calls.

use std::sync::Arc;

use axum::{Router, http::StatusCode, middleware::map_response, response::Response};
use lifecycle::{
    api::{About, Api},
    observe::observed,
};
use utoipa_axum::{
    router::{UtoipaMethodRouter, UtoipaMethodRouterExt as _},
    routes,
};

use crate::{
    app::State,
    metrics::{Metrics, Outcomes},
};

mod adopt_file;
mod change_user;
mod claim_lease;
mod commit_file;
mod create_file;
mod create_job;
mod create_session;
mod create_token;
mod create_user;
mod delete_file;
mod delete_job;
mod delete_server;
mod delete_session;
mod delete_token;
mod drain_server;
mod health;
mod introspect_token;
mod list_audit;
mod list_files;
mod list_jobs;
mod list_servers;
mod list_sessions;
mod list_unknown;
mod list_users;
mod preheat_file;
mod put_job_progress;
mod put_replica;
mod put_server;
mod reconcile;
mod report_lease;
mod show_docs;
mod show_events;
mod show_file;
mod show_job;
mod show_job_events;
mod show_manifest;
mod show_metalink;
mod show_metrics;
mod show_replicas;

/// The largest body of most routes, in bytes: some of them read it before they know who is asking.
const MAX_BODY: usize = 16 << 10;
/// The largest commit: 16,384 digests in hex, with room to spare. Only publishers get so far.
const MAX_COMMIT: usize = 2 << 20;
/// The largest report: every second of 16,384 chunks. Only file servers get so far.
const MAX_REPORT: usize = 256 << 10;
/// The largest question about files that a server holds: 1,000 ids. Only file servers get so far.
const MAX_RECONCILE: usize = 64 << 10;

const ABOUT: About = About {
    title: "DDM info-server",
    description: "Accounts, catalogue, placement and tokens. Errors are problem documents (RFC 9457); times are RFC 3339 UTC, \
                  sizes bytes, digests SHA-256 in lower-case hex; lists page by cursor. Tokens travel in `Authorization: Bearer` \
                  and nowhere else.",
    version: env!("CARGO_PKG_VERSION"),
};

/// The table of routes.
fn api(metrics: &Metrics) -> Api<Arc<State>> {
    let api = Api::new(ABOUT, Some(MAX_BODY))
        .bearer("session", "ddms_…", "A person's log-in, from `POST /v1/sessions`")
        .bearer("download", "ddmd_…", "The right to one file, from `GET /v1/files/{id}`")
        .bearer("server", "ddmv_…", "A file server's own token")
        .bearer("join", "text", "The secret that file servers enrol with");
    let api = api
        .routes(counted_logins(metrics, routes!(create_session::create_session)))
        .routes(routes!(list_sessions::list_sessions, delete_session::delete_other_sessions))
        .routes(routes!(delete_session::delete_named_session))
        .routes(routes!(delete_session::delete_session))
        .routes(routes!(list_users::list_users, create_user::create_user))
        .routes(routes!(change_user::change_user))
        .routes(routes!(list_audit::list_audit))
        .routes(routes!(list_files::list_files, create_file::create_file))
        .routes(routes!(show_file::show_file, delete_file::delete_file))
        .routes_up_to(MAX_COMMIT, routes!(commit_file::commit_file))
        .routes_up_to(MAX_COMMIT, routes!(adopt_file::adopt_file))
        .routes(routes!(show_manifest::show_manifest))
        .routes(routes!(show_metalink::show_metalink))
        .routes(routes!(create_token::create_token))
        .routes(routes!(delete_token::delete_token))
        .routes(routes!(show_replicas::show_replicas))
        .routes(routes!(preheat_file::preheat_file))
        .routes(routes!(list_jobs::list_jobs, create_job::create_job))
        .routes(routes!(show_job::show_job, delete_job::delete_job))
        .routes(routes!(show_job_events::show_job_events))
        .routes_up_to(MAX_REPORT, routes!(put_job_progress::put_job_progress))
        .routes(routes!(list_servers::list_servers))
        .routes(routes!(list_unknown::list_unknown))
        .routes(routes!(drain_server::show_drain, drain_server::drain_server, drain_server::undrain_server));
    let api = api
        .routes(routes!(put_server::put_server, delete_server::delete_server))
        .routes(routes!(show_events::show_events))
        .routes_up_to(MAX_RECONCILE, routes!(reconcile::reconcile))
        .routes_up_to(MAX_REPORT, routes!(put_replica::put_replica))
        .routes(routes!(claim_lease::claim_lease))
        .routes_up_to(MAX_REPORT, routes!(report_lease::report_lease))
        .routes(counted_introspections(metrics, routes!(introspect_token::introspect_token)));
    api.routes(routes!(health::show_livez))
        .routes(routes!(health::show_readyz))
        .routes(routes!(show_metrics::show_metrics))
        .routes(routes!(show_docs::show_docs))
        .routes(routes!(show_docs::show_docs_file))
}

pub(crate) fn router(state: Arc<State>) -> Router {
    let requests = state.metrics.requests.clone();
    observed(api(&state.metrics).finish().0.with_state(state), requests)
}

type Routes = UtoipaMethodRouter<Arc<State>>;

fn counted_logins(metrics: &Metrics, routes: Routes) -> Routes {
    use StatusCode as S;
    const NAMES: [(S, &str); 3] =
        [(S::CREATED, "done"), (S::UNAUTHORIZED, "refused"), (S::TOO_MANY_REQUESTS, "throttled")];
    counted(&metrics.logins, &NAMES, routes)
}

fn counted_introspections(metrics: &Metrics, routes: Routes) -> Routes {
    const NAMES: [(StatusCode, &str); 2] = [(StatusCode::OK, "found"), (StatusCode::NOT_FOUND, "unknown")];
    counted(&metrics.introspections, &NAMES, routes)
}

/// Counts where an answer leaves, so that no way out of a handler is forgotten.
fn counted(outcomes: &Outcomes, names: &'static [(StatusCode, &'static str)], routes: Routes) -> Routes {
    let outcomes = outcomes.clone();
    let count = map_response(move |response: Response| {
        outcomes.count(&response, names);
        std::future::ready(response)
    });
    routes.layer(count)
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::counter::Counter;

    use super::*;

    #[test]
    fn every_route_says_who_may_call_it_what_it_answers_and_how_it_refuses() {
        let (_, description) = api(&Metrics::new(Counter::default())).finish();
        let description = serde_json::to_value(description).unwrap();
        for (path, item) in description["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let about = |key: &str| assert!(operation.get(key).is_some(), "{method} {path} has no {key}");
                ["summary", "tags", "security", "responses"].into_iter().for_each(about);
                let refusal = &operation["responses"]["default"]["content"]["application/problem+json"];
                assert_eq!(refusal["schema"]["$ref"], "#/components/schemas/Problem", "{method} {path}");
            }
        }
    }
}
