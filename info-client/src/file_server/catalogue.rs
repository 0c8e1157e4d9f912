//! Files, replicas and tokens.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use wire::{
    Digest, FileId, Zone,
    catalogue::{FileDetails, IssuedToken, Manifest},
    server::{Introspection, ReconcileAnswer, ReconcileRequest, ReplicaReport},
    token::Grant,
    trace,
};

use super::FileServerClient;
use crate::Result;

/// Deadline of an introspection: a client's request waits for it.
const INTROSPECTION_TIMEOUT: Duration = Duration::from_millis(500);

impl FileServerClient {
    /// Returns the grant of a token, or none when the info-server has no such token. With `trace`, the info-server logs the
    /// introspection under the trace of the download that waits for it.
    ///
    /// # Errors
    /// [`InfoError`](crate::InfoError).
    pub async fn introspect(&self, token_hash: Digest, trace: Option<trace::TraceId>) -> Result<Option<Grant>> {
        let request = self.transport.request(Method::POST, "v1/tokens/introspect").timeout(INTROSPECTION_TIMEOUT);
        let request = match trace {
            Some(trace) => request.header(trace::HEADER, trace.header()),
            None => request,
        };
        match self.transport.fetch(request.json(&Introspection { token_hash })).await {
            Err(error) if error.http_status() == Some(StatusCode::NOT_FOUND.as_u16()) => Ok(None),
            answer => answer.map(Some),
        }
    }

    /// Submits files that are held here and missing in a snapshot; the answer decides about each.
    ///
    /// # Errors
    /// [`InfoError`](crate::InfoError).
    pub async fn reconcile(&self, question: &ReconcileRequest) -> Result<ReconcileAnswer> {
        self.transport.fetch(self.transport.request(Method::POST, &self.own_path("/reconcile")).json(question)).await
    }

    /// Reports which chunks of a file this server holds.
    ///
    /// # Errors
    /// [`InfoError`](crate::InfoError).
    pub async fn report_replica(&self, file: FileId, report: &ReplicaReport) -> Result<()> {
        let request = self.transport.request(Method::PUT, &format!("v1/files/{file}/replicas/{}", self.id));
        self.transport.send(request.json(report)).await.map(drop)
    }

    /// Returns the details of a file. With `grant` the answer carries a download token.
    ///
    /// # Errors
    /// [`InfoError`](crate::InfoError).
    pub async fn file(&self, file: FileId, zone: &Zone, grant: bool) -> Result<FileDetails> {
        let grant = if grant { "true" } else { "false" };
        let request = self.transport.request(Method::GET, &format!("v1/files/{file}"));
        self.transport.fetch(request.query(&[("zone", zone.as_str()), ("grant", grant)])).await
    }

    /// Returns the manifest of a file.
    ///
    /// # Errors
    /// [`InfoError`](crate::InfoError).
    pub async fn manifest(&self, file: FileId) -> Result<Manifest> {
        self.transport.fetch(self.transport.request(Method::GET, &format!("v1/files/{file}/manifest"))).await
    }

    /// Returns a further download token.
    ///
    /// # Errors
    /// [`InfoError`](crate::InfoError).
    pub async fn renew_token(&self, file: FileId) -> Result<IssuedToken> {
        self.transport.fetch(self.transport.request(Method::POST, &format!("v1/files/{file}/tokens"))).await
    }
}
