use std::sync::Arc;

use axum::extract::State as Shared;
use wire::server::ServerList;

use crate::{app::State, caller::Reader};

/// `GET /v1/servers`: the live ones.
#[utoipa::path(
    get,
    path = "/v1/servers",
    tag = "Servers",
    security(("session" = [])),
    responses((status = 200, description = "The live ones", body = ServerList))
)]
pub(super) async fn list_servers(Shared(state): Shared<Arc<State>>, _: Reader) -> axum::Json<ServerList> {
    axum::Json(ServerList { servers: state.live() })
}
