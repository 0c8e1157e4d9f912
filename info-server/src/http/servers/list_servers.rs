use std::sync::Arc;

use axum::extract::State as Shared;
use wire::server::ServerList;

use crate::{http::auth::SignedInUser, state::State};

/// `GET /v1/servers`: the live file servers.
#[utoipa::path(
    get,
    path = "/v1/servers",
    tag = "Servers",
    security(("session" = [])),
    responses((status = 200, description = "The live file servers", body = ServerList))
)]
pub(crate) async fn list_servers(Shared(state): Shared<Arc<State>>, _: SignedInUser) -> axum::Json<ServerList> {
    axum::Json(ServerList { servers: state.live() })
}
