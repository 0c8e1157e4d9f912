//! Registration: what follows from a heartbeat, and from a server that leaves. The rules are the registry's; this module has what they
//! need from outside: the check of an address, and the database.
//!
//! A check takes its time, so the rules are asked again after it, one registration at a time: of two that began together
//! the second one sees what the first has done. The database changes before the registry does.

use std::time::Instant;

use jiff::Timestamp;
use serde_json::json;
use wire::{
    ProblemKind, ServerId,
    id::InstanceId,
    server::{Heartbeat, ServerIdentity},
};

use crate::{
    accounts::{
        audit::{AuditEntry, AuditKind},
        store::audit,
    },
    db::Database,
    error::{Error, Result, conflict},
    fleet::{
        members::Fleet,
        registry::{Admission, Credential},
        store,
    },
};

/// Times that the rules are asked before the server is asked to come back.
const MAX_TRIES: usize = 3;

/// Outcome of a heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Registration {
    /// The lease is renewed, and nothing else changed.
    Renewed,
    /// The server, its process or its address is new.
    Registered {
        /// Set if clients may be sent there.
        reachable: bool,
    },
}

/// Takes in a heartbeat.
///
/// # Errors
/// Whatever keeps the server from speaking under this id.
pub(crate) async fn beat(
    db: &Database,
    fleet: &Fleet,
    id: &ServerId,
    credential: Credential,
    beat: &Heartbeat,
) -> Result<Registration> {
    for _ in 0..MAX_TRIES {
        let admission = admit(fleet, id, credential, beat);
        match admission {
            Admission::Renew => return Ok(Registration::Renewed),
            Admission::Check => {}
            Admission::Contest { holder } => {
                if answers(fleet, id, holder).await {
                    return Err(second_instance(fleet, id));
                }
            }
            Admission::Second => return Err(second_instance(fleet, id)),
            Admission::Unknown => {
                return Err(Error::Unauthenticated("this server is not enrolled here: enrol with the join secret"));
            }
            Admission::Taken => {
                let problem = conflict(ProblemKind::Taken, "Server id taken")
                    .detail("it belongs to a server with another secret, or secret_sha256 is missing");
                return Err(Error::Refused(problem));
            }
        }
        let unreachable = check_address(fleet, id, beat).await.err();
        let _one_at_a_time = fleet.lock_registration().await;
        if admit(fleet, id, credential, beat) == admission {
            let reachable = register(db, fleet, id, beat, unreachable).await?;
            return Ok(Registration::Registered { reachable });
        }
    }
    Err(Error::Busy { status: 503, retry_after: 1, detail: "several processes register under this id" })
}

/// Asks the rules about a heartbeat, and renews the lease where nothing else is to be done.
fn admit(fleet: &Fleet, id: &ServerId, credential: Credential, beat: &Heartbeat) -> Admission {
    let (mut registry, now) = (fleet.registry_mut(), Instant::now());
    let admission = registry.admit(id, beat, credential, now);
    if admission == Admission::Renew {
        registry.renew(id, beat, now, Timestamp::now());
    }
    admission
}

/// Returns true if the process that holds the identity still answers at its address.
async fn answers(fleet: &Fleet, id: &ServerId, holder: InstanceId) -> bool {
    let url = fleet.registry().get(id).map(|server| server.url.clone());
    let Some(url) = url else { return false };
    let expected = ServerIdentity { server: id.clone(), instance: holder };
    fleet.address_check.identity(&url).await.is_ok_and(|identity| identity == expected)
}

fn second_instance(fleet: &Fleet, id: &ServerId) -> Error {
    let place = fleet.registry().get(id).map(|server| server.url.to_string()).unwrap_or_default();
    let problem = conflict(ProblemKind::SecondInstance, "Second instance").detail(format!(
        "{id} is live at {place}: stop it, or give this one a data folder of its own; if it is gone, this one takes its \
         place when its lease ends"
    ));
    Error::Refused(problem)
}

/// Checks that this very process answers at its address; returns the reason why clients are not sent there otherwise.
async fn check_address(fleet: &Fleet, id: &ServerId, beat: &Heartbeat) -> std::result::Result<(), String> {
    let claimed = ServerIdentity { server: id.clone(), instance: beat.instance };
    match fleet.address_check.identity(&beat.url).await {
        Ok(identity) if identity == claimed => Ok(()),
        Ok(other) if other.server == *id => Err("another process with its identity answers there".to_owned()),
        Ok(other) => Err(format!("{} answers there", other.server)),
        Err(error) => Err(format!("{error:#}")),
    }
}

/// Stores a new server, process or address; returns true if clients may be sent there.
async fn register(
    db: &Database,
    fleet: &Fleet,
    id: &ServerId,
    beat: &Heartbeat,
    unreachable: Option<String>,
) -> Result<bool> {
    let reachable = unreachable.is_none();
    let row = fleet.registry().registration(id, beat, reachable, Timestamp::now());
    let row = row.ok_or(Error::Unauthenticated("this server is not enrolled here"))?;
    // A server that stays out of reach comes back every few seconds: that is neither a write nor a line each time.
    let is_new = fleet.registry().get(id).is_none();
    if !fleet.registry().knows(&row) {
        let mut write = db.write().await?;
        store::save(&mut write, &row).await?;
        if is_new {
            let detail = json!({ "zone": row.zone, "url": row.url });
            let entry = AuditEntry::new(AuditKind::ServerEnrolled).about(id).with(detail);
            audit::record(&mut write, &[entry], Timestamp::now()).await?;
        }
        write.commit().await?;
        if let Some(reason) = unreachable {
            tracing::warn!(server = %id, url = %row.url, "File server {id} gets no clients: {reason}");
        } else {
            tracing::info!(server = %id, zone = %row.zone, url = %row.url, "File server {id} registered");
        }
    }
    fleet.registry_mut().register(row, beat, Instant::now());
    Ok(reachable)
}

/// Ends a server's lease: no client is sent there from then on.
///
/// # Errors
/// The database's; the server is then as live as before.
pub(crate) async fn leave(db: &Database, fleet: &Fleet, id: &ServerId) -> Result<()> {
    let _one_at_a_time = fleet.lock_registration().await;
    let Some(row) = fleet.registry().leaving(id) else { return Ok(()) };
    let mut write = db.write().await?;
    store::save(&mut write, &row).await?;
    write.commit().await?;
    fleet.registry_mut().leave(id, Instant::now());
    tracing::info!(server = %id, "File server {id} left");
    Ok(())
}
