//! Heartbeats and leaving.

use std::time::Duration;

use reqwest::Method;
use secrecy::{ExposeSecret as _, SecretString};
use wire::server::{Heartbeat, HeartbeatAnswer};

use super::FileServerClient;
use crate::Result;

/// Deadline of the goodbye of a process that is ending.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(1);

impl FileServerClient {
    /// Registers this server or renews its lease.
    ///
    /// # Errors
    /// [`InfoError`](crate::InfoError); status 401 when this server's secret is not enrolled.
    pub async fn send_heartbeat(&self, heartbeat: &Heartbeat) -> Result<HeartbeatAnswer> {
        self.transport.fetch(self.transport.request(Method::PUT, &self.own_path("")).json(heartbeat)).await
    }

    /// Enrols this server: registers it under the join secret, with the digest of its own secret in the heartbeat.
    ///
    /// # Errors
    /// [`InfoError`](crate::InfoError).
    pub async fn enrol(&self, heartbeat: &Heartbeat, join_secret: &SecretString) -> Result<HeartbeatAnswer> {
        let request = self.transport.http.put(self.transport.url(&self.own_path(""))).timeout(self.transport.deadline);
        self.transport.fetch(request.bearer_auth(join_secret.expose_secret()).json(heartbeat)).await
    }

    /// Unregisters this server.
    ///
    /// # Errors
    /// [`InfoError`](crate::InfoError).
    pub async fn leave(&self) -> Result<()> {
        let request = self.transport.request(Method::DELETE, &self.own_path("")).timeout(LEAVE_TIMEOUT);
        self.transport.send(request).await.map(drop)
    }
}
