//! The heartbeat: registration, lease, and the only clock this server believes.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use lifecycle::Shutdown;
use rand::RngExt as _;
use reqwest::StatusCode;
use secrecy::SecretString;
use url::Url;
use wire::{
    ServerId,
    server::{Heartbeat, HeartbeatAnswer, Seen},
};

use crate::{
    address::Advertised, blobs::blocking, catchup::Follower, info::InfoError, server::Server, store::StoreError,
    volume::Volume,
};

/// From one heartbeat to the next.
const INTERVAL: Duration = Duration::from_secs(3);
/// How long facts that a heartbeat's answer names may be on their way.
const ON_THEIR_WAY: Duration = Duration::from_secs(1);
/// How much time may pass before the high-water mark is written again.
const MARK_EVERY: Duration = Duration::from_secs(30);

/// The problem of an identity that another live process has.
const SECOND_INSTANCE: &str = "urn:ddm:problem:second-instance";
/// The problem of an id that was enrolled with another secret.
const TAKEN: &str = "urn:ddm:problem:taken";

/// Keeps this server registered.
#[derive(Debug)]
pub(crate) struct Registration {
    pub(crate) server: Arc<Server>,
    pub(crate) follower: Arc<Follower>,
    /// Where clients reach this server.
    pub(crate) advertised: Advertised,
    pub(crate) join_secret: Option<SecretString>,
    /// How much it should hold beside others.
    pub(crate) weight: u32,
}

impl Registration {
    /// Beats until `shutdown`, then leaves at once.
    pub(crate) async fn keep_registered(self, shutdown: Shutdown) -> anyhow::Result<()> {
        let finishing = shutdown.finishing();
        let mut volume = self.server.blobs.volume.subscribe();
        let mut marked: Option<Instant> = None;
        let mut last_failure = None;
        // From the first heartbeat on its way until one is refused.
        let mut may_be_listed = true;
        loop {
            volume.mark_unchanged();
            let beaten = tokio::select! {
                beaten = self.beat() => beaten,
                () = finishing.cancelled() => break,
            };
            self.judge(&beaten);
            may_be_listed = !matches!(beaten, Err(InfoError::Refused { .. }));
            let pause = match beaten {
                Ok((answer, url, lags)) => {
                    if last_failure.take().is_some() || marked.is_none() {
                        self.greet(&answer, &url);
                    }
                    if marked.is_none_or(|at| at.elapsed() >= MARK_EVERY) {
                        self.mark(answer.now).await;
                        marked = Some(Instant::now());
                    }
                    if lags {
                        tokio::select! {
                            () = tokio::time::sleep(ON_THEIR_WAY) => {}
                            () = finishing.cancelled() => break,
                        }
                        let looked = self.follower.look_again(&answer).await;
                        looked.inspect_err(cursors_unreadable).unwrap_or_default();
                    }
                    if lags { INTERVAL - ON_THEIR_WAY } else { INTERVAL }
                }
                Err(error) => {
                    let told = describe(&error, &self.server.identity.id, self.join_secret.is_some());
                    if last_failure.as_ref() != Some(&told) {
                        tracing::error!("{told}");
                        last_failure = Some(told);
                    }
                    // Spread out, so that the servers of a zone do not come back in one wave.
                    INTERVAL.mul_f64(rand::rng().random_range(0.2..1.0))
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                // Whether files may be sent here is told at once. The sender is the server's own.
                _ = volume.changed() => {}
                () = finishing.cancelled() => break,
            }
        }
        // A process that was refused because another one lives under its name must not take that one down.
        self.server.registered.send_replace(false);
        if may_be_listed && let Err(error) = self.server.info.leave().await {
            tracing::info!(%error, "left without being able to say so");
        }
        Ok(())
    }

    fn judge(&self, beaten: &Result<(HeartbeatAnswer, Url, bool), InfoError>) {
        let usurped = match beaten {
            Ok(_) => Some(false),
            Err(InfoError::Refused { problem, .. }) if problem.kind == SECOND_INSTANCE => Some(true),
            // Nobody said anything about it.
            Err(_) => None,
        };
        // The identity's fate first: whoever sees that this server is registered must find it to be its own.
        self.server.usurped.send_if_modified(|before| usurped.is_some_and(|now| std::mem::replace(before, now) != now));
        self.server.registered.send_replace(beaten.is_ok());
    }

    /// The answer, the address it was told, and whether the answer names facts that were not seen here.
    async fn beat(&self) -> Result<(HeartbeatAnswer, Url, bool), InfoError> {
        let folder = self.server.blobs.folder().clone();
        // Nothing can be stored on a volume that takes no writes, however much of it is free.
        let failing = *self.server.blobs.volume.borrow() == Volume::Failing;
        let free_bytes = if failing { 0 } else { blocking(move || folder.free_bytes()).await.unwrap_or(0) };
        let mut heartbeat = Heartbeat {
            zone: self.server.zone.clone(),
            url: self.advertised.now().await.map_err(InfoError::NoRoute)?,
            instance: self.server.identity.instance,
            secret_sha256: None,
            load: u32::try_from(self.server.running.count()).unwrap_or(u32::MAX),
            free_bytes,
            weight: self.weight,
            seen: None,
        };
        // Read before the question is put: an answer that knows less comes from a database that was put back.
        let cursors = self.server.store.cursors().await.inspect_err(cursors_unreadable).unwrap_or_default();
        // What is in question may have been deleted: it would be forgotten of what all servers have seen to the end.
        let asks = self.server.store.questions(1).await.map_or(true, |open| !open.is_empty());
        let epoch = cursors.epoch.filter(|_| !asks);
        heartbeat.seen = epoch.map(|epoch| Seen { epoch, streams: cursors.streams.clone() });
        let mut asked = Instant::now();
        let mut answer = self.server.info.beat(&heartbeat, None).await;
        if let (Err(InfoError::Refused { status: StatusCode::UNAUTHORIZED, .. }), Some(secret)) =
            (&answer, &self.join_secret)
        {
            heartbeat.secret_sha256 = Some(self.server.identity.secret.hash());
            asked = Instant::now();
            answer = self.server.info.beat(&heartbeat, Some(secret)).await;
            if answer.is_ok() {
                tracing::info!(server = %self.server.identity.id, "enrolled with the info-server");
            }
        }
        let answer = answer?;
        // As if the answer had taken no time: a slow way back must not lengthen any token's life.
        self.server.clock.observe(answer.now, asked);
        self.server.pace.limit_zones(&answer.pull_limits);
        let lags = self.follower.compare(&cursors, &answer).await.inspect_err(cursors_unreadable).unwrap_or_default();
        Ok((answer, heartbeat.url, lags))
    }

    fn greet(&self, answer: &HeartbeatAnswer, url: &Url) {
        let server = &self.server.identity.id;
        tracing::info!(%server, %url, "registered with the info-server");
        if !answer.reachable {
            tracing::warn!(%server, %url, "the info-server cannot reach this address: nobody is sent here (--public-url)");
        }
    }

    async fn mark(&self, now: Timestamp) {
        if let Err(error) = self.server.store.raise_high_water(now).await {
            tracing::error!(%error, "the time cannot be remembered");
        }
    }
}

fn cursors_unreadable(error: &StoreError) {
    tracing::error!(%error, "the cursors cannot be read");
}

/// What is wrong, and what to do about it.
fn describe(error: &InfoError, id: &ServerId, has_join_secret: bool) -> String {
    match error {
        InfoError::Refused { problem, .. } if problem.kind == SECOND_INSTANCE => format!(
            "another live process uses the identity {id} of this data folder, so that this one serves nothing; stop one of \
             them, or give it a fresh --data folder"
        ),
        InfoError::Refused { problem, .. } if problem.kind == TAKEN => format!(
            "the info-server knows the id {id} with another secret than this data folder's: bring back the folder's \
             own secret, or start with a fresh --data folder"
        ),
        InfoError::Refused { status: StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, .. } if !has_join_secret => {
            format!("the info-server does not know server {id}: give it a join secret with --join-secret-file")
        }
        InfoError::Refused { status: StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, .. } => {
            format!("the info-server refused to enrol server {id}: check the join secret")
        }
        other => format!("server {id} is not registered: {other}"),
    }
}

#[cfg(test)]
mod tests {
    use wire::Problem;

    use super::*;

    #[test]
    fn a_refusal_is_told_by_its_problem_and_not_by_its_status_alone() {
        let id = "fs-a".parse().unwrap();
        for (status, word, join_secret, told) in [
            (409, "second-instance", true, "another live process"),
            (409, "taken", true, "with another secret"),
            (409, "elsewise", true, "409 Conflict: A title: a detail"),
            (401, "unauthorized", false, "--join-secret-file"),
            (401, "unauthorized", true, "check the join secret"),
        ] {
            let problem = Problem::new(status, word, "A title").detail("a\n detail");
            let error =
                InfoError::Refused { status: StatusCode::from_u16(status).unwrap(), problem: Box::new(problem) };
            let found = describe(&error, &id, join_secret);
            assert!(found.contains(told) && found.contains("fs-a"), "{word}: {found}");
        }
    }
}
