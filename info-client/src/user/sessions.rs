//! Logins.

use reqwest::Method;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;
use wire::{
    SessionId, Zone,
    catalogue::{IssuedSession, SessionList},
};

use super::UserClient;
use crate::Result;

impl UserClient {
    /// Logs in. `zone` becomes the zone of every later request of the session that names none.
    ///
    /// # Errors
    /// [`InfoError`](crate::InfoError); status 401 when the e-mail or the password is wrong.
    pub async fn log_in(&self, email: &str, password: &SecretString, zone: Option<&Zone>) -> Result<IssuedSession> {
        let body = json!({ "email": email, "password": password.expose_secret(), "zone": zone });
        self.transport.fetch(self.transport.request(Method::POST, "v1/sessions").json(&body)).await
    }

    /// Ends the session of this client.
    ///
    /// # Errors
    /// [`InfoError`](crate::InfoError).
    pub async fn log_out(&self) -> Result<()> {
        self.transport.send(self.transport.request(Method::DELETE, "v1/sessions/current")).await.map(drop)
    }

    /// Returns the open sessions of the account.
    ///
    /// # Errors
    /// [`InfoError`](crate::InfoError).
    pub async fn sessions(&self) -> Result<SessionList> {
        self.transport.fetch(self.transport.request(Method::GET, "v1/sessions")).await
    }

    /// Ends one session.
    ///
    /// # Errors
    /// [`InfoError`](crate::InfoError); status 404 when the account has no such session.
    pub async fn close_session(&self, id: SessionId) -> Result<()> {
        self.transport.send(self.transport.request(Method::DELETE, &format!("v1/sessions/{id}"))).await.map(drop)
    }

    /// Ends all sessions of the account except the one of this client.
    ///
    /// # Errors
    /// [`InfoError`](crate::InfoError).
    pub async fn close_other_sessions(&self) -> Result<()> {
        self.transport.send(self.transport.request(Method::DELETE, "v1/sessions")).await.map(drop)
    }
}
