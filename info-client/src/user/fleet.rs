//! File servers and replicas.

use reqwest::Method;
use wire::{
    FileId, ServerId,
    catalogue::{FilePolicy, PolicyChange, PolicyOutcome, PreheatRequest, ReplicaStatus},
    server::{DrainStatus, ServerList},
};

use super::UserClient;
use crate::Result;

impl UserClient {
    /// Returns the live file servers.
    ///
    /// # Errors
    /// [`InfoError`](crate::InfoError).
    pub async fn servers(&self) -> Result<ServerList> {
        self.transport.fetch(self.transport.request(Method::GET, "v1/servers")).await
    }

    /// Returns the wanted and the verified replicas of a file.
    ///
    /// # Errors
    /// [`InfoError`](crate::InfoError).
    pub async fn replicas(&self, id: FileId) -> Result<ReplicaStatus> {
        self.transport.fetch(self.transport.request(Method::GET, &format!("v1/files/{id}/replicas"))).await
    }

    /// Requests replicas of a file in one more zone.
    ///
    /// # Errors
    /// [`InfoError`](crate::InfoError); status 409 when the zone has no live server.
    pub async fn preheat(&self, id: FileId, preheat: &PreheatRequest) -> Result<()> {
        let request = self.transport.request(Method::POST, &format!("v1/files/{id}/preheat"));
        self.transport.send(request.json(preheat)).await.map(drop)
    }

    /// Returns the servers and zones that are to hold a file.
    ///
    /// # Errors
    /// [`InfoError`](crate::InfoError).
    pub async fn policy(&self, id: FileId) -> Result<FilePolicy> {
        self.transport.fetch(self.transport.request(Method::GET, &format!("v1/files/{id}/policy"))).await
    }

    /// Changes the servers and zones that are to hold a file.
    ///
    /// # Errors
    /// [`InfoError`](crate::InfoError); status 403 for others than the file's publisher and admins.
    pub async fn change_policy(&self, id: FileId, change: &PolicyChange) -> Result<PolicyOutcome> {
        let request = self.transport.request(Method::PATCH, &format!("v1/files/{id}/policy"));
        self.transport.fetch(request.json(change)).await
    }

    /// Starts to drain a file server.
    ///
    /// # Errors
    /// [`InfoError`](crate::InfoError); status 409 when the other servers cannot hold its files.
    pub async fn drain(&self, server: &ServerId) -> Result<DrainStatus> {
        self.transport.fetch(self.transport.request(Method::POST, &drain_path(server))).await
    }

    /// Returns the progress of draining a file server.
    ///
    /// # Errors
    /// [`InfoError`](crate::InfoError).
    pub async fn drain_status(&self, server: &ServerId) -> Result<DrainStatus> {
        self.transport.fetch(self.transport.request(Method::GET, &drain_path(server))).await
    }

    /// Ends the draining of a file server: it accepts files again.
    ///
    /// # Errors
    /// [`InfoError`](crate::InfoError).
    pub async fn undrain(&self, server: &ServerId) -> Result<()> {
        self.transport.send(self.transport.request(Method::DELETE, &drain_path(server))).await.map(drop)
    }
}

fn drain_path(server: &ServerId) -> String {
    format!("v1/servers/{server}/drain")
}
