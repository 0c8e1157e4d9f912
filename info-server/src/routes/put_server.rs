use std::{sync::Arc, time::Instant};

use axum::{extract::State as Shared, http::request::Parts};
use jiff::Timestamp;
use lifecycle::http::{Json, Path, bearer};
use secrecy::ExposeSecret as _;
use subtle::ConstantTimeEq as _;
use url::Url;
use wire::{
    ServerId,
    event::Stream,
    server::{Heartbeat, HeartbeatAnswer, Identity},
    token::{Kind, Token},
};

use crate::{
    app::State,
    error::{Error, Result, conflict, invalid},
    registry::{Admission, Credential, LEASE},
    store::servers::{self, Enrolled},
};

/// `PUT /v1/servers/{id}`: registration and heartbeat.
pub(super) async fn put_server(
    Shared(state): Shared<Arc<State>>,
    Path(id): Path<ServerId>,
    parts: Parts,
    Json(beat): Json<Heartbeat>,
) -> Result<axum::Json<HeartbeatAnswer>> {
    let credential = credential(&state, &parts)?;
    check_address(&beat.url).map_err(invalid)?;
    let admission = state.registry().admit(&id, &beat, credential, Instant::now());
    let reachable = match admission {
        Admission::Renew => {
            state.registry_mut().renew(&id, &beat, Instant::now(), Timestamp::now());
            true
        }
        Admission::Check => register(&state, &id, &beat).await?,
        Admission::Contest { holder } => {
            evict_or_refuse(&state, &id, holder).await?;
            register(&state, &id, &beat).await?
        }
        Admission::Unknown => {
            return Err(Error::Unauthenticated("this server is not enrolled here: enrol with the join secret"));
        }
        Admission::Taken => {
            let problem = conflict("taken", "The id cannot be enrolled")
                .detail("it belongs to a server with another secret, or secret_sha256 is missing");
            return Err(Error::Refused(problem));
        }
    };
    let streams = state.store.newest(&Stream::of_server(&id, &beat.zone)).await?;
    let (now, epoch) = (Timestamp::now(), state.store.epoch());
    let lease_s = u32::try_from(LEASE.as_secs())?;
    Ok(axum::Json(HeartbeatAnswer { now, epoch, streams, lease_s, reachable }))
}

fn credential(state: &State, parts: &Parts) -> Result<Credential> {
    let text = bearer(parts).ok_or(Error::Unauthenticated("send the join secret or the server's own token"))?;
    // The join secret may itself look like a token, so it is compared first.
    if bool::from(text.as_bytes().ct_eq(state.join_secret.expose_secret().as_bytes())) {
        return Ok(Credential::Join);
    }
    match text.parse::<Token>() {
        Ok(token) if token.kind() == Kind::Server => Ok(Credential::Own(token.hash())),
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

/// A process that took over an identity: the one before must be gone from its address, or it keeps the name.
async fn evict_or_refuse(state: &State, id: &ServerId, holder: wire::id::InstanceId) -> Result<()> {
    let url = state.registry().get(id).map(|server| server.url.clone());
    let Some(url) = url else { return Ok(()) };
    match state.probe.identity(&url).await {
        Ok(identity) if identity == (Identity { server: id.clone(), instance: holder }) => {
            let problem = conflict("second-instance", "Another process with this identity is live")
                .detail(format!("{id} answers at {url}: stop it, or give this one a data folder of its own"));
            Err(Error::Refused(problem))
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Stores a new server, process or address, after asking who answers there.
async fn register(state: &State, id: &ServerId, beat: &Heartbeat) -> Result<bool> {
    let claimed = Identity { server: id.clone(), instance: beat.instance };
    let unreachable = match state.probe.identity(&beat.url).await {
        Ok(identity) if identity == claimed => None,
        Ok(other) => Some(format!("{} answers there", other.server)),
        Err(error) => Some(format!("{error:#}")),
    };
    let reachable = unreachable.is_none();
    let row = state.registry().registration(id, beat, reachable, Timestamp::now());
    let row: Enrolled = row.ok_or(Error::Unauthenticated("this server is not enrolled here"))?;
    // One that stays out of reach comes back every few seconds: that is neither a write nor a line each time.
    if !state.registry().knows(&row) {
        let mut write = state.store.write().await?;
        servers::save(&mut write, &row).await?;
        write.commit().await?;
        if let Some(reason) = unreachable {
            tracing::warn!(server = %id, url = %row.url, "nobody is sent there: {reason}");
        } else {
            tracing::info!(server = %id, zone = %row.zone, url = %row.url, "registered");
        }
    }
    state.registry_mut().register(row, beat.load, Instant::now());
    Ok(reachable)
}
