//! The heartbeat: registration, lease, and the only clock that this server trusts.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use info_client::{CERTIFICATE_ADVICE, InfoError};
use jiff::Timestamp;
use lifecycle::{Shutdown, fault_log::FaultLog};
use rand::RngExt as _;
use reqwest::StatusCode;
use secrecy::SecretString;
use url::Url;
use wire::{
    ServerId,
    server::{Heartbeat, HeartbeatAnswer, StreamCursors},
};

use crate::{
    db::DatabaseError, events::consumer::EventConsumer, state::AppState,
    upstream::advertised_address::AdvertisedAddress,
};

static TIME_FAULTS: FaultLog = FaultLog::new("The info-server's time cannot be stored");
static CURSOR_FAULTS: FaultLog = FaultLog::new("Stream cursors cannot be read");

/// Time from one heartbeat to the next.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(3);
/// Time that events named in a heartbeat's answer may be on their way.
const DELIVERY_GRACE: Duration = Duration::from_secs(1);
/// Time after which the latest time of the info-server is stored again.
const HIGH_WATER_INTERVAL: Duration = Duration::from_secs(30);

/// Reason why no heartbeat is sent, beside those that the info-server gives.
const FOLDER_REPLACED: &str = "the data folder was replaced";
/// Problem type of an identity that another live process has.
const SECOND_INSTANCE: &str = "urn:ddm:problem:second-instance";
/// Problem type of an id that was enrolled with another secret.
const ID_TAKEN: &str = "urn:ddm:problem:taken";

/// Keeps this server registered.
#[derive(Debug)]
pub(crate) struct Registration {
    pub(crate) state: Arc<AppState>,
    pub(crate) consumer: Arc<EventConsumer>,
    /// The address at which clients reach this server.
    pub(crate) advertised: AdvertisedAddress,
    pub(crate) join_secret: Option<SecretString>,
    /// Share of a zone's files that it should store, relative to other servers.
    pub(crate) weight: u32,
}

/// Result of an accepted heartbeat.
struct Registered {
    answer: HeartbeatAnswer,
    /// The address that the heartbeat reported.
    url: Url,
    /// Set if the answer names events that were not read.
    lags: bool,
}

impl Registration {
    /// Sends heartbeats until `shutdown`, then deregisters at once.
    pub(crate) async fn run(self, shutdown: Shutdown) -> anyhow::Result<()> {
        let finishing = shutdown.finishing();
        let mut volume = self.state.blobs.volume().subscribe();
        let mut marked: Option<Instant> = None;
        let mut last_failure: Option<String> = None;
        // From the first heartbeat that was sent until one is refused.
        let mut may_be_listed = true;
        loop {
            volume.mark_unchanged();
            if self.state.blobs.check_folder().await.is_err() {
                // Clients are sent elsewhere, and what was stored here is to be stored elsewhere. The volume's monitor logs it.
                if self.state.registered.send_replace(false) {
                    let _ = self.state.info.leave().await;
                    last_failure = Some(FOLDER_REPLACED.to_owned());
                }
                may_be_listed = false;
                tokio::select! {
                    () = tokio::time::sleep(HEARTBEAT_INTERVAL) => continue,
                    () = finishing.cancelled() => break,
                }
            }
            let heartbeat = tokio::select! {
                heartbeat = self.beat() => heartbeat,
                () = finishing.cancelled() => break,
            };
            self.store_outcome(&heartbeat);
            may_be_listed = heartbeat.as_ref().err().and_then(InfoError::http_status).is_none();
            let pause = match heartbeat {
                Ok(Registered { answer, url, lags }) => {
                    if last_failure.take().is_some() || marked.is_none() {
                        log_registration(&self.state, &answer, &url);
                    }
                    if marked.is_none_or(|at| at.elapsed() >= HIGH_WATER_INTERVAL) {
                        self.store_high_water(answer.now).await;
                        marked = Some(Instant::now());
                    }
                    if lags {
                        tokio::select! {
                            () = tokio::time::sleep(DELIVERY_GRACE) => {}
                            () = finishing.cancelled() => break,
                        }
                        let rechecked = self.consumer.recheck(&answer).await;
                        rechecked.inspect_err(log_cursor_error).unwrap_or_default();
                    }
                    if lags { HEARTBEAT_INTERVAL - DELIVERY_GRACE } else { HEARTBEAT_INTERVAL }
                }
                Err(error) => {
                    let failure = describe(&error, &self.state.identity.id, self.join_secret.is_some());
                    // One line for an outage: its causes alternate while the info-server stops and starts.
                    let kind = if matches!(error, InfoError::Unreachable { .. }) { "unreachable" } else { &failure };
                    if last_failure.as_deref() != Some(kind) {
                        match announcement(&error, marked.is_some()) {
                            Announcement::Waiting => tracing::info!("Waiting for the info-server: {error}"),
                            Announcement::Failure => tracing::error!("{failure}"),
                        }
                        last_failure = Some(kind.to_owned());
                    }
                    // Spread out, so that the servers of a zone do not come back in one wave.
                    HEARTBEAT_INTERVAL.mul_f64(rand::rng().random_range(0.2..1.0))
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                // The info-server learns at once whether files may be sent here. The sender is in the state.
                _ = volume.changed() => {}
                () = finishing.cancelled() => break,
            }
        }
        // A process that was refused because another one has its identity must not deregister that one.
        self.state.registered.send_replace(false);
        if may_be_listed && let Err(error) = self.state.info.leave().await {
            tracing::info!(%error, "The info-server could not be told that this server stops");
        }
        Ok(())
    }

    fn store_outcome(&self, heartbeat: &Result<Registered, InfoError>) {
        let conflict = match heartbeat {
            Ok(_) => Some(false),
            Err(InfoError::Refused(problem)) if problem.kind == SECOND_INSTANCE => Some(true),
            // The failure says nothing about it.
            Err(_) => None,
        };
        // The conflict first: a task that finds this server registered must find the identity to be its own.
        let (sender, registered) = (&self.state.identity_conflict, heartbeat.is_ok());
        sender.send_if_modified(|before| conflict.is_some_and(|now| std::mem::replace(before, now) != now));
        self.state.registered.send_replace(registered);
    }

    fn no_route(&self, error: &std::io::Error) -> InfoError {
        self.state.info.unreachable(format!("no address of this machine leads to it: {error}"))
    }

    /// Sends a heartbeat; enrols when the info-server does not have this server yet.
    async fn beat(&self) -> Result<Registered, InfoError> {
        let mut heartbeat = Heartbeat {
            zone: self.state.zone.clone(),
            url: self.advertised.now().await.map_err(|error| self.no_route(&error))?,
            instance: self.state.identity.instance,
            secret_sha256: None,
            load: u32::try_from(self.state.responses.count()).unwrap_or(u32::MAX),
            free_bytes: self.state.blobs.volume().storable_bytes().await,
            weight: self.weight,
            seen: None,
        };
        // Read before the request is sent: an answer with smaller numbers comes from a database that was restored.
        let cursors = self.state.db.note(self.state.db.cursors().await);
        let cursors = cursors.inspect_err(log_cursor_error).unwrap_or_default();
        // A file with an open status may have been deleted. The info-server must not drop that deletion as one that all servers
        // have read.
        let has_questions = self.state.db.open_questions(1).await.map_or(true, |open| !open.is_empty());
        let epoch = cursors.epoch.filter(|_| !has_questions);
        heartbeat.seen = epoch.map(|epoch| StreamCursors { epoch, streams: cursors.streams.clone() });
        let mut sent_at = Instant::now();
        let mut answer = self.state.info.send_heartbeat(&heartbeat).await;
        let is_unknown = answer.as_ref().err().and_then(InfoError::http_status) == Some(401);
        if let (true, Some(secret)) = (is_unknown, &self.join_secret) {
            heartbeat.secret_sha256 = Some(self.state.identity.secret.hash());
            sent_at = Instant::now();
            answer = self.state.info.enrol(&heartbeat, secret).await;
            if answer.is_ok() {
                tracing::info!(server = %self.state.identity.id, "Enrolled with the info-server");
            }
        }
        let answer = answer?;
        // As if the answer had taken no time: a slow way back must not lengthen any token's life.
        self.state.clock.observe(answer.now, sent_at);
        self.state.rate_limiter.limit_zones(&answer.pull_limits);
        let lags = self.consumer.compare(&cursors, &answer).await.inspect_err(log_cursor_error).unwrap_or_default();
        Ok(Registered { answer, url: heartbeat.url, lags })
    }

    async fn store_high_water(&self, now: Timestamp) {
        if let Err(error) = self.state.db.raise_high_water(now).await {
            TIME_FAULTS.failed(error);
        }
    }
}

fn log_registration(state: &AppState, answer: &HeartbeatAnswer, url: &Url) {
    let server = &state.identity.id;
    tracing::info!(%server, %url, "Registered with the info-server as {server} at {url}");
    if !answer.reachable {
        tracing::warn!(%server, %url, "The info-server cannot reach {url}, so clients are not sent here: check --public-url");
    }
}

fn log_cursor_error(error: &DatabaseError) {
    CURSOR_FAULTS.failed(error);
}

/// Way to log a failed heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Announcement {
    /// Servers that are started together wait for each other.
    Waiting,
    /// An operator has to look at it.
    Failure,
}

/// Chooses the way to log a failed heartbeat of a process that did or did not register before.
fn announcement(error: &InfoError, is_known: bool) -> Announcement {
    match error {
        InfoError::Unreachable { .. } if !is_known && !error.is_about_certificate() => Announcement::Waiting,
        _ => Announcement::Failure,
    }
}

/// Returns a description of a refusal, and what to do about it.
fn describe(error: &InfoError, id: &ServerId, has_join_secret: bool) -> String {
    match (error, error.http_status()) {
        (InfoError::Refused(problem), _) if problem.kind == SECOND_INSTANCE => format!(
            "another live process uses the identity {id} of this data folder, so that this one serves nothing; stop one of \
             them, or give it a fresh --data folder"
        ),
        (InfoError::Refused(problem), _) if problem.kind == ID_TAKEN => format!(
            "the info-server has the id {id} with another secret than this data folder's: restore the folder's own \
             secret, or start with a fresh --data folder"
        ),
        (_, Some(401 | 403)) if !has_join_secret => {
            format!("server {id} is not enrolled at the info-server: give it a join secret with --join-secret-file")
        }
        (_, Some(401 | 403)) => {
            format!("the info-server refused to enrol server {id}: check the join secret")
        }
        (InfoError::Refused(problem), _) => match StatusCode::from_u16(problem.status) {
            Ok(status) => format!("server {id} is not registered: {status}: {error}"),
            Err(_) => format!("server {id} is not registered: {error}"),
        },
        _ if error.is_about_certificate() => format!("server {id} is not registered: {error}; {CERTIFICATE_ADVICE}"),
        _ => format!("server {id} is not registered: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use wire::Problem;

    use super::*;

    #[test]
    fn a_refusal_is_described_by_its_problem_and_not_by_its_status_alone() {
        let id = "fs-a".parse().unwrap();
        for (status, word, join_secret, expected) in [
            (409, "second-instance", true, "another live process"),
            (409, "taken", true, "with another secret"),
            (409, "elsewise", true, "409 Conflict: A title: a detail"),
            (401, "unauthorized", false, "--join-secret-file"),
            (401, "unauthorized", true, "check the join secret"),
        ] {
            let problem = Problem::new(status, word, "A title").detail("a\n detail");
            let error = InfoError::Refused(Box::new(problem));
            let found = describe(&error, &id, join_secret);
            assert!(found.contains(expected) && found.contains("fs-a"), "{word}: {found}");
        }
    }
    #[test]
    fn an_info_server_that_is_started_later_is_waited_for_without_an_error() {
        let base: url::Url = "http://127.0.0.1:8000".parse().unwrap();
        let away = || InfoError::Unreachable { base: base.clone(), reason: "Connection refused".to_owned() };
        let untrusted = || InfoError::Unreachable { base: base.clone(), reason: "invalid peer certificate".to_owned() };
        let refused = || InfoError::Refused(Box::new(Problem::new(409, "content-fixed", "Refused")));
        for (error, is_known, expected) in [
            (away(), false, Announcement::Waiting),
            (away(), true, Announcement::Failure),
            (untrusted(), false, Announcement::Failure),
            (refused(), false, Announcement::Failure),
            (refused(), true, Announcement::Failure),
        ] {
            assert_eq!(announcement(&error, is_known), expected, "{error} {is_known}");
        }
    }
}
