//! Publishing and removing files.

use std::time::Duration;

use reqwest::Method;
use wire::{
    FileId, FileName,
    catalogue::{Adoption, CommitRequest, FileChange, FileSummary, NewFile, UploadPlan},
};

use super::UserClient;
use crate::Result;

/// Deadline of a commit: the info-server itself waits for the quorum before it answers.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(20);

impl UserClient {
    /// Announces a file and returns the servers to upload it to.
    ///
    /// # Errors
    /// [`InfoError`](crate::InfoError); status 409 when fewer servers live than the quorum needs.
    pub async fn announce(&self, file: &NewFile) -> Result<UploadPlan> {
        self.transport.fetch(self.transport.request(Method::POST, "v1/files").json(file)).await
    }

    /// Commits the content of an announced file. The info-server waits for the quorum.
    ///
    /// # Errors
    /// [`InfoError`](crate::InfoError); status 409 when the quorum is missing.
    pub async fn commit(&self, id: FileId, commit: &CommitRequest) -> Result<FileSummary> {
        let request = self.transport.request(Method::POST, &format!("v1/files/{id}/commit")).timeout(COMMIT_TIMEOUT);
        self.transport.fetch(request.json(commit)).await
    }

    /// Adds an orphaned file, which servers hold and the catalogue lacks, to the catalogue.
    ///
    /// # Errors
    /// [`InfoError`](crate::InfoError); status 409 when no server holds it as an orphan.
    pub async fn adopt(&self, id: FileId, adoption: &Adoption) -> Result<FileSummary> {
        let request = self.transport.request(Method::POST, &format!("v1/files/{id}/adopt"));
        self.transport.fetch(request.json(adoption)).await
    }

    /// Gives a file another name.
    ///
    /// # Errors
    /// [`InfoError`](crate::InfoError); status 403 for others than the file's publisher and admins.
    pub async fn rename(&self, id: FileId, name: &FileName) -> Result<()> {
        let change = FileChange { name: Some(name.clone()) };
        let request = self.transport.request(Method::PATCH, &format!("v1/files/{id}"));
        self.transport.send(request.json(&change)).await.map(drop)
    }

    /// Removes a file and its replicas.
    ///
    /// # Errors
    /// [`InfoError`](crate::InfoError).
    pub async fn remove(&self, id: FileId) -> Result<()> {
        self.transport.send(self.transport.request(Method::DELETE, &format!("v1/files/{id}"))).await.map(drop)
    }

    /// Removes an upload that was not committed. An info-server of an earlier version ignores the condition and would remove a
    /// published file, too: ask for the file's state first.
    ///
    /// # Errors
    /// [`InfoError`](crate::InfoError); status 409 when the file is published.
    pub async fn remove_upload(&self, id: FileId) -> Result<()> {
        let request = self.transport.request(Method::DELETE, &format!("v1/files/{id}"));
        self.transport.send(request.query(&[("state", "uploading")])).await.map(drop)
    }
}
