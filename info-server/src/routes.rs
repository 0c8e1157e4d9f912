//! Everything this server answers, grouped by who calls.

use std::sync::Arc;

use axum::{
    Router,
    extract::DefaultBodyLimit,
    routing::{delete, get, post, put},
};
use lifecycle::http::with_fallbacks;

use crate::app::State;

mod commit_file;
mod create_file;
mod create_session;
mod create_token;
mod create_user;
mod delete_file;
mod delete_server;
mod delete_session;
mod delete_token;
mod health;
mod introspect_token;
mod list_files;
mod list_servers;
mod put_replica;
mod put_server;
mod show_events;
mod show_file;
mod show_manifest;

/// The largest body of most routes, in bytes: some of them read it before they know who is asking.
const MAX_BODY: usize = 16 << 10;
/// The largest commit: 16,384 digests in hex, with room to spare. Only publishers get so far.
const MAX_COMMIT: usize = 2 << 20;
/// The largest report: every second of 16,384 chunks. Only file servers get so far.
const MAX_REPORT: usize = 256 << 10;

fn up_to(bytes: usize) -> DefaultBodyLimit {
    DefaultBodyLimit::max(bytes)
}

pub(crate) fn router(state: Arc<State>) -> Router {
    let people = Router::new()
        .route("/v1/sessions", post(create_session::create_session))
        .route("/v1/sessions/current", delete(delete_session::delete_session))
        .route("/v1/users", post(create_user::create_user))
        .route("/v1/files", get(list_files::list_files).post(create_file::create_file))
        .route("/v1/files/{id}", get(show_file::show_file).delete(delete_file::delete_file))
        .route("/v1/files/{id}/commit", post(commit_file::commit_file).layer(up_to(MAX_COMMIT)))
        .route("/v1/files/{id}/manifest", get(show_manifest::show_manifest))
        .route("/v1/files/{id}/tokens", post(create_token::create_token))
        .route("/v1/tokens/{token_id}", delete(delete_token::delete_token))
        .route("/v1/servers", get(list_servers::list_servers));
    let file_servers = Router::new()
        .route("/v1/servers/{id}", put(put_server::put_server).delete(delete_server::delete_server))
        .route("/v1/servers/{id}/events", get(show_events::show_events))
        .route("/v1/files/{id}/replicas/{server}", put(put_replica::put_replica).layer(up_to(MAX_REPORT)))
        .route("/v1/tokens/introspect", post(introspect_token::introspect_token));
    let operators = Router::new().route("/livez", get(health::show_livez)).route("/readyz", get(health::show_readyz));
    with_fallbacks(people.merge(file_servers).merge(operators)).layer(up_to(MAX_BODY)).with_state(state)
}
