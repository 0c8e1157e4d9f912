use std::{sync::Arc, time::Instant};

use axum::{extract::State as Shared, http::request::Parts};
use http_front::{
    extract::{Json, Path, bearer},
    openapi::Conflict,
};
use jiff::Timestamp;
use secrecy::ExposeSecret as _;
use subtle::ConstantTimeEq as _;
use url::Url;
use wire::{
    ServerId,
    event::Stream,
    server::{Heartbeat, HeartbeatAnswer},
    token::{Token, TokenKind},
};

use crate::{
    error::{Error, Result, invalid},
    fleet::{
        registration::{self, Registration},
        registry::{Credential, SERVER_LEASE},
    },
    state::State,
};

/// `PUT /v1/servers/{id}`: registration and heartbeat.
#[utoipa::path(
    put,
    path = "/v1/servers/{id}",
    tag = "File servers",
    params(("id" = ServerId, Path, description = "The server")), request_body = Heartbeat, security(("server" = []), ("join" = [])),
    responses((status = 200, description = "Taken", body = HeartbeatAnswer), Conflict)
)]
pub(crate) async fn put_server(
    Shared(state): Shared<Arc<State>>,
    Path(id): Path<ServerId>,
    parts: Parts,
    Json(beat): Json<Heartbeat>,
) -> Result<axum::Json<HeartbeatAnswer>> {
    let credential = credential(&state, &parts)?;
    check_address(&beat.url).map_err(invalid)?;
    let reachable = match registration::beat(&state.db, &state.fleet, &id, credential, &beat).await? {
        Registration::Renewed => true,
        Registration::Registered { reachable } => {
            state.planner.wake();
            reachable
        }
    };
    let (streams, as_of) = state.db.newest(&Stream::of_server(&id, &beat.zone)).await?;
    let (now, epoch) = (Timestamp::now(), state.db.epoch());
    let pull_limits = state.link_bandwidth().shares(&id, &beat.zone, Instant::now());
    let lease_s = u32::try_from(SERVER_LEASE.as_secs())?;
    let as_of = Some(as_of);
    Ok(axum::Json(HeartbeatAnswer { now, epoch, streams, as_of, lease_s, reachable, pull_limits }))
}

fn credential(state: &State, parts: &Parts) -> Result<Credential> {
    let text =
        bearer(&parts.headers).ok_or(Error::Unauthenticated("send the join secret or the server's own token"))?;
    // The join secret may itself look like a token, so it is compared first.
    if bool::from(text.as_bytes().ct_eq(state.join_secret.expose_secret().as_bytes())) {
        return Ok(Credential::Join);
    }
    match text.parse::<Token>() {
        Ok(token) if token.kind() == TokenKind::Server => Ok(Credential::Own(token.hash())),
        Ok(_) | Err(_) => Err(Error::Unauthenticated("this is neither the join secret nor a server's token")),
    }
}

fn check_address(url: &Url) -> std::result::Result<(), &'static str> {
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err("url must begin with http:// or https:// and name a host");
    }
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
        return Err("url must hold no user, query or fragment");
    }
    Ok(())
}
