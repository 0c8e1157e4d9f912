//! The table of routes: everything this server answers, grouped by who calls.

use std::sync::Arc;

use axum::{
    Router,
    http::StatusCode,
    middleware::{from_fn_with_state, map_response},
    response::Response,
};
use http_front::{
    observe::observe_requests,
    openapi::{Api, ApiInfo},
};
use utoipa::openapi::PathItem;
use utoipa_axum::{
    router::{UtoipaMethodRouter, UtoipaMethodRouterExt as _},
    routes,
};

use super::{
    accounts::{change_user, create_session, create_user, delete_session, list_audit, list_sessions, list_users},
    files::{
        adopt_file, change_file, change_policy, commit_file, create_file, delete_file, list_files, preheat_file,
        put_replica, show_file, show_manifest, show_metalink, show_policy, show_replicas,
    },
    idempotency,
    jobs::{claim_lease, create_job, delete_job, list_jobs, put_job_progress, report_lease, show_job, show_job_events},
    servers::{delete_server, drain_server, list_orphans, list_servers, put_server, reconcile, show_events},
    system::{health, show_docs, show_metrics, show_root},
    tokens::{create_token, delete_token, introspect_token},
};
use crate::{
    error::StorageFailure,
    metrics::registry::{Metrics, OutcomeName, Outcomes},
    state::State,
};

/// Bytes in the largest body of most routes: some of them read it before the caller is authenticated.
const MAX_BODY_BYTES: usize = 16 << 10;
/// Bytes in the largest commit: 16,384 digests in hex, with room to spare. Only publishers get so far.
const MAX_COMMIT_BYTES: usize = 2 << 20;
/// Bytes in the largest report: every second of 16,384 chunks. Only file servers get so far.
const MAX_REPORT_BYTES: usize = 256 << 10;
/// Bytes in the largest question about files that a server holds: 1,000 ids. Only file servers get so far.
const MAX_RECONCILE_BYTES: usize = 64 << 10;

const ABOUT: ApiInfo = ApiInfo {
    title: "DDM info-server",
    description: "Accounts, catalogue, placement and tokens. Errors are problem documents (RFC 9457); times are RFC 3339 UTC, \
                  sizes bytes, digests SHA-256 in lower-case hex; lists page by cursor. Tokens travel in `Authorization: Bearer` \
                  and nowhere else.",
    version: env!("CARGO_PKG_VERSION"),
};

/// Builds the table.
fn api(metrics: &Metrics) -> Api<Arc<State>> {
    let api = Api::new(ABOUT, Some(MAX_BODY_BYTES))
        .bearer_scheme("session", "ddms_…", "A person's log-in, from `POST /v1/sessions`")
        .bearer_scheme("download", "ddmd_…", "The right to one file, from `GET /v1/files/{id}`")
        .bearer_scheme("server", "ddmv_…", "A file server's own token")
        .bearer_scheme("join", "text", "The secret that file servers enrol with");
    for_operators(for_file_servers(for_users(api, metrics), metrics))
}

#[rustfmt::skip]
fn for_users(api: Api<Arc<State>>, metrics: &Metrics) -> Api<Arc<State>> {
    let login = at("POST /v1/sessions", routes!(create_session::create_session));
    api
        .routes(counted_logins(metrics, login))
        .routes(at("GET DELETE /v1/sessions", routes!(list_sessions::list_sessions, delete_session::delete_other_sessions)))
        .routes(at("DELETE /v1/sessions/{id}", routes!(delete_session::delete_named_session)))
        .routes(at("DELETE /v1/sessions/current", routes!(delete_session::delete_session)))
        .routes(at("GET POST /v1/users", routes!(list_users::list_users, create_user::create_user)))
        .routes(at("PATCH /v1/users/{user}", routes!(change_user::change_user)))
        .routes(at("GET /v1/audit", routes!(list_audit::list_audit)))
        .routes(at("GET POST /v1/files", routes!(list_files::list_files, create_file::create_file)))
        .routes(at("GET PATCH DELETE /v1/files/{id}",
            routes!(show_file::show_file, change_file::change_file, delete_file::delete_file)))
        .routes_with_body_limit(MAX_COMMIT_BYTES, at("POST /v1/files/{id}/commit", routes!(commit_file::commit_file)))
        .routes_with_body_limit(MAX_COMMIT_BYTES, at("POST /v1/files/{id}/adopt", routes!(adopt_file::adopt_file)))
        .routes(at("GET /v1/files/{id}/manifest", routes!(show_manifest::show_manifest)))
        .routes(at("GET /v1/files/{id}/metalink", routes!(show_metalink::show_metalink)))
        .routes(at("POST /v1/files/{id}/tokens", routes!(create_token::create_token)))
        .routes(at("DELETE /v1/tokens/{token_id}", routes!(delete_token::delete_token)))
        .routes(at("GET /v1/files/{id}/replicas", routes!(show_replicas::show_replicas)))
        .routes(at("GET PATCH /v1/files/{id}/policy", routes!(show_policy::show_policy, change_policy::change_policy)))
        .routes(at("POST /v1/files/{id}/preheat", routes!(preheat_file::preheat_file)))
        .routes(at("GET POST /v1/jobs", routes!(list_jobs::list_jobs, create_job::create_job)))
        .routes(at("GET DELETE /v1/jobs/{id}", routes!(show_job::show_job, delete_job::delete_job)))
        .routes(at("GET /v1/jobs/{id}/events", routes!(show_job_events::show_job_events)))
        .routes_with_body_limit(MAX_REPORT_BYTES, at("PUT /v1/jobs/{id}/progress", routes!(put_job_progress::put_job_progress)))
        .routes(at("GET /v1/servers", routes!(list_servers::list_servers)))
        .routes(at("GET /v1/unknown-files", routes!(list_orphans::list_orphans)))
        .routes(at("GET POST DELETE /v1/servers/{id}/drain",
            routes!(drain_server::show_drain, drain_server::drain_server, drain_server::undrain_server)))
}

#[rustfmt::skip]
fn for_file_servers(api: Api<Arc<State>>, metrics: &Metrics) -> Api<Arc<State>> {
    let introspection = at("POST /v1/tokens/introspect", routes!(introspect_token::introspect_token));
    api
        .routes(at("PUT DELETE /v1/servers/{id}", routes!(put_server::put_server, delete_server::delete_server)))
        .routes(at("GET /v1/servers/{id}/events", routes!(show_events::show_events)))
        .routes_with_body_limit(MAX_RECONCILE_BYTES, at("POST /v1/servers/{id}/reconcile", routes!(reconcile::reconcile)))
        .routes_with_body_limit(MAX_REPORT_BYTES, at("PUT /v1/files/{id}/replicas/{server}", routes!(put_replica::put_replica)))
        .routes(at("POST /v1/jobs/{id}/leases", routes!(claim_lease::claim_lease)))
        .routes_with_body_limit(MAX_REPORT_BYTES, at("PUT /v1/jobs/{id}/leases/{fence}", routes!(report_lease::report_lease)))
        .routes(counted_introspections(metrics, introspection))
}

#[rustfmt::skip]
fn for_operators(api: Api<Arc<State>>) -> Api<Arc<State>> {
    api
        .routes(at("GET /", routes!(show_root::show_root)))
        .routes(at("GET /livez", routes!(health::show_livez)))
        .routes(at("GET /readyz", routes!(health::show_readyz)))
        .routes(at("GET /metrics", routes!(show_metrics::show_metrics)))
        .routes(at("GET /docs", routes!(show_docs::show_docs)))
        .routes(at("GET /docs/{file}", routes!(show_docs::show_docs_file)))
}

/// Checks that the handlers of a row answer the row's methods and path: an endpoint's file names them too, for its description.
fn at(row: &str, handlers: Routes) -> Routes {
    let answered: Vec<String> =
        handlers.1.paths.iter().map(|(path, item)| format!("{}{path}", methods(item))).collect();
    assert_eq!(answered, [row], "a row of the table names other methods or another path than its handlers");
    handlers
}

fn methods(item: &PathItem) -> String {
    let named = [
        ("GET ", &item.get),
        ("POST ", &item.post),
        ("PUT ", &item.put),
        ("PATCH ", &item.patch),
        ("DELETE ", &item.delete),
    ];
    named.into_iter().filter(|(_, operation)| operation.is_some()).map(|(name, _)| name).collect()
}

/// Returns the router of the whole interface.
pub(crate) fn router(state: Arc<State>) -> Router {
    let (requests, db) = (state.metrics.requests.clone(), state.db.clone());
    let note_storage_failures = map_response(move |response: Response| {
        if let Some(StorageFailure { fault, cause: Some(cause) }) = response.extensions().get() {
            db.note_fault(*fault, cause);
        }
        std::future::ready(response)
    });
    let router = api(&state.metrics).finish().0.with_state(state.clone());
    let router = router.layer(from_fn_with_state(state, idempotency::keep_answers)).layer(note_storage_failures);
    observe_requests(router, requests)
}

type Routes = UtoipaMethodRouter<Arc<State>>;

fn counted_logins(metrics: &Metrics, routes: Routes) -> Routes {
    const NAMES: [OutcomeName; 3] = [
        OutcomeName { status: StatusCode::CREATED, name: "done" },
        OutcomeName { status: StatusCode::UNAUTHORIZED, name: "refused" },
        OutcomeName { status: StatusCode::TOO_MANY_REQUESTS, name: "throttled" },
    ];
    counted(&metrics.logins, &NAMES, routes)
}

fn counted_introspections(metrics: &Metrics, routes: Routes) -> Routes {
    const NAMES: [OutcomeName; 2] = [
        OutcomeName { status: StatusCode::OK, name: "found" },
        OutcomeName { status: StatusCode::NOT_FOUND, name: "unknown" },
    ];
    counted(&metrics.introspections, &NAMES, routes)
}

/// Counts answers where they leave, so that no way out of a handler is forgotten.
fn counted(outcomes: &Outcomes, names: &'static [OutcomeName], routes: Routes) -> Routes {
    let outcomes = outcomes.clone();
    let count = map_response(move |response: Response| {
        outcomes.count(&response, names);
        std::future::ready(response)
    });
    routes.layer(count)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use http_front::openapi::dangling_references;
    use prometheus_client::metrics::counter::Counter;

    use super::*;

    #[test]
    fn every_route_says_who_may_call_it_what_it_answers_and_how_it_refuses() {
        let (_, description) = api(&Metrics::new(Counter::default())).finish();
        assert_eq!(dangling_references(&description), BTreeSet::new());
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
