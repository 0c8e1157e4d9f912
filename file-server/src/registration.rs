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
    server::{Heartbeat, HeartbeatAnswer},
};

use crate::{address::Advertised, blobs::blocking, catchup::Follower, info::InfoError, server::Server};

/// From one heartbeat to the next.
const INTERVAL: Duration = Duration::from_secs(3);
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
}

impl Registration {
    /// Beats until `shutdown`, then leaves at once.
    pub(crate) async fn keep_registered(self, shutdown: Shutdown) -> anyhow::Result<()> {
        let finishing = shutdown.finishing();
        let mut marked: Option<Instant> = None;
        let mut last_failure = None;
        // From the first heartbeat on its way until one is refused.
        let mut may_be_listed = true;
        loop {
            let beaten = tokio::select! {
                beaten = self.beat() => beaten,
                () = finishing.cancelled() => break,
            };
            self.server.registered.send_replace(beaten.is_ok());
            may_be_listed = !matches!(beaten, Err(InfoError::Refused { .. }));
            let pause = match beaten {
                Ok((answer, url)) => {
                    if last_failure.take().is_some() || marked.is_none() {
                        self.greet(&answer, &url);
                    }
                    if marked.is_none_or(|at| at.elapsed() >= MARK_EVERY) {
                        self.mark(answer.now).await;
                        marked = Some(Instant::now());
                    }
                    INTERVAL
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

    async fn beat(&self) -> Result<(HeartbeatAnswer, Url), InfoError> {
        let folder = self.server.blobs.folder().clone();
        let free_bytes = blocking(move || folder.free_bytes()).await.unwrap_or(0);
        let mut heartbeat = Heartbeat {
            zone: self.server.zone.clone(),
            url: self.advertised.now().await.map_err(InfoError::NoRoute)?,
            instance: self.server.identity.instance,
            secret_sha256: None,
            load: u32::try_from(self.server.running.count()).unwrap_or(u32::MAX),
            free_bytes,
        };
        let mut answer = self.server.info.beat(&heartbeat, None).await;
        if let (Err(InfoError::Refused { status: StatusCode::UNAUTHORIZED, .. }), Some(secret)) =
            (&answer, &self.join_secret)
        {
            heartbeat.secret_sha256 = Some(self.server.identity.secret.hash());
            answer = self.server.info.beat(&heartbeat, Some(secret)).await;
            if answer.is_ok() {
                tracing::info!(server = %self.server.identity.id, "enrolled with the info-server");
            }
        }
        let answer = answer?;
        self.server.clock.observe(answer.now, Instant::now());
        if let Err(error) = self.follower.compare(answer.epoch, &answer.streams).await {
            tracing::error!(%error, "the cursors cannot be read");
        }
        Ok((answer, heartbeat.url))
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

/// What is wrong, and what to do about it.
fn describe(error: &InfoError, id: &ServerId, has_join_secret: bool) -> String {
    match error {
        InfoError::Refused { problem, .. } if problem.kind == SECOND_INSTANCE => format!(
            "another live process uses the identity {id} of this data folder; stop it, or give one of them a fresh \
             --data folder"
        ),
        InfoError::Refused { problem, .. } if problem.kind == TAKEN => format!(
            "the info-server knows the id {id} with another secret than this data folder's: bring back the folder's \
             own secret, or start with a fresh --data folder"
        ),
        InfoError::Refused { status: StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, .. } if !has_join_secret => {
            format!("the info-server does not know server {id}: give it a join secret with --join-secret-file")
        }
        InfoError::Refused { problem, .. } if problem.kind == TAKEN => format!(
            "the info-server knows the id {id} with another secret than this data folder's: bring back the folder's \
             own secret, or start with a fresh --data folder"
        ),
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
