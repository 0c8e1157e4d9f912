//! What follows from a heartbeat or a goodbye. The rules are the registry's; here is what they need from outside: a look at
//! an address, and the database.
//!
//! A look takes its time, so the rules are asked again after it, one registration at a time: of two that began together
//! the second one sees what the first has done. The database changes before the registry does.

use std::time::Instant;

use jiff::Timestamp;
use serde_json::json;
use wire::{
    ServerId,
    id::InstanceId,
    server::{Heartbeat, Identity},
};

use crate::{
    app::State,
    error::{Error, Result, conflict},
    registry::{Admission, Credential},
    store::{
        audit::{self, Deed, Kind},
        servers,
    },
};

/// How often the rules are asked again before the server is told to come back.
const TRIES: usize = 3;

/// Takes in a heartbeat; whether clients may be sent to its server.
///
/// # Errors
/// Whatever keeps the server from speaking under this id.
pub(crate) async fn beat(state: &State, id: &ServerId, credential: Credential, beat: &Heartbeat) -> Result<bool> {
    for _ in 0..TRIES {
        let admission = admit(state, id, credential, beat);
        match admission {
            Admission::Renew => return Ok(true),
            Admission::Check => {}
            Admission::Contest { holder } => {
                if answers(state, id, holder).await {
                    return Err(second_instance(state, id));
                }
            }
            Admission::Second => return Err(second_instance(state, id)),
            Admission::Unknown => {
                return Err(Error::Unauthenticated("this server is not enrolled here: enrol with the join secret"));
            }
            Admission::Taken => {
                let problem = conflict("taken", "The id cannot be enrolled")
                    .detail("it belongs to a server with another secret, or secret_sha256 is missing");
                return Err(Error::Refused(problem));
            }
        }
        let unreachable = look(state, id, beat).await.err();
        let _turn = state.registering.lock().await;
        if admit(state, id, credential, beat) == admission {
            return register(state, id, beat, unreachable).await;
        }
    }
    Err(Error::Busy { status: 503, retry_after: 1, detail: "several processes register under this id" })
}

/// Judges a heartbeat, and renews the lease where nothing else is to be done.
fn admit(state: &State, id: &ServerId, credential: Credential, beat: &Heartbeat) -> Admission {
    let (mut registry, now) = (state.registry_mut(), Instant::now());
    let admission = registry.admit(id, beat, credential, now);
    if admission == Admission::Renew {
        registry.renew(id, beat, now, Timestamp::now());
    }
    admission
}

/// Whether the process that has the identity still answers at its address.
async fn answers(state: &State, id: &ServerId, holder: InstanceId) -> bool {
    let url = state.registry().get(id).map(|server| server.url.clone());
    let Some(url) = url else { return false };
    let expected = Identity { server: id.clone(), instance: holder };
    state.probe.identity(&url).await.is_ok_and(|identity| identity == expected)
}

fn second_instance(state: &State, id: &ServerId) -> Error {
    let place = state.registry().get(id).map(|server| server.url.to_string()).unwrap_or_default();
    let problem = conflict("second-instance", "Another process with this identity is live").detail(format!(
        "{id} is live at {place}: stop it, or give this one a data folder of its own; if it is gone, this one takes its \
         place when its lease ends"
    ));
    Error::Refused(problem)
}

/// Asks who answers at a new address; why nobody is sent there otherwise.
async fn look(state: &State, id: &ServerId, beat: &Heartbeat) -> std::result::Result<(), String> {
    let claimed = Identity { server: id.clone(), instance: beat.instance };
    match state.probe.identity(&beat.url).await {
        Ok(identity) if identity == claimed => Ok(()),
        Ok(other) if other.server == *id => Err("another process with its identity answers there".to_owned()),
        Ok(other) => Err(format!("{} answers there", other.server)),
        Err(error) => Err(format!("{error:#}")),
    }
}

/// Stores a new server, process or address.
async fn register(state: &State, id: &ServerId, beat: &Heartbeat, unreachable: Option<String>) -> Result<bool> {
    let reachable = unreachable.is_none();
    let row = state.registry().registration(id, beat, reachable, Timestamp::now());
    let row = row.ok_or(Error::Unauthenticated("this server is not enrolled here"))?;
    // One that stays out of reach comes back every few seconds: that is neither a write nor a line each time.
    let is_new = state.registry().get(id).is_none();
    if !state.registry().knows(&row) {
        let mut write = state.store.write().await?;
        servers::save(&mut write, &row).await?;
        if is_new {
            let detail = json!({ "zone": row.zone, "url": row.url });
            let deed = Deed::new(Kind::ServerEnrolled).about(id).with(detail);
            audit::record(&mut write, &[deed], Timestamp::now()).await?;
        }
        write.commit().await?;
        if let Some(reason) = unreachable {
            tracing::warn!(server = %id, url = %row.url, "nobody is sent there: {reason}");
        } else {
            tracing::info!(server = %id, zone = %row.zone, url = %row.url, "registered");
        }
    }
    state.registry_mut().register(row, beat, Instant::now());
    state.planner.wake();
    Ok(reachable)
}

/// Takes in a goodbye: nobody is sent there from then on.
///
/// # Errors
/// The database's; the server is then as live as before.
pub(crate) async fn leave(state: &State, id: &ServerId) -> Result<()> {
    let _turn = state.registering.lock().await;
    let Some(row) = state.registry().leaving(id) else { return Ok(()) };
    let mut write = state.store.write().await?;
    servers::save(&mut write, &row).await?;
    write.commit().await?;
    state.registry_mut().leave(id, Instant::now());
    tracing::info!(server = %id, "left");
    Ok(())
}
