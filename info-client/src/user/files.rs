//! The catalogue: lists, details, manifests, download tokens.

use reqwest::Method;
use wire::{
    FileId, Zone,
    catalogue::{FileDetails, FileList, IssuedToken, Manifest},
};

use super::UserClient;
use crate::Result;

impl UserClient {
    /// Returns one page of the files whose names contain `part`.
    ///
    /// # Errors
    /// [`InfoError`](crate::InfoError).
    pub async fn files(&self, part: &str, limit: u32, cursor: Option<&str>) -> Result<FileList> {
        let request = self.transport.request(Method::GET, "v1/files").query(&[("q", part)]).query(&[("limit", limit)]);
        self.transport.fetch(request.query(&[("cursor", cursor.unwrap_or_default())])).await
    }

    /// Returns one page of the files whose ids begin with `prefix`. An info-server of an older version returns all files.
    ///
    /// # Errors
    /// [`InfoError`](crate::InfoError).
    pub async fn files_by_id(&self, prefix: &str, limit: u32, cursor: Option<&str>) -> Result<FileList> {
        let request =
            self.transport.request(Method::GET, "v1/files").query(&[("id", prefix)]).query(&[("limit", limit)]);
        self.transport.fetch(request.query(&[("cursor", cursor.unwrap_or_default())])).await
    }

    /// Returns one page of the published files of `size` bytes that no job made. An info-server of an older version returns
    /// all files.
    ///
    /// # Errors
    /// [`InfoError`](crate::InfoError).
    pub async fn files_by_size(&self, size: u64, limit: u32, cursor: Option<&str>) -> Result<FileList> {
        let request =
            self.transport.request(Method::GET, "v1/files").query(&[("size", size)]).query(&[("limit", limit)]);
        self.transport.fetch(request.query(&[("cursor", cursor.unwrap_or_default())])).await
    }

    /// Returns the details of a file. With `grant` the answer carries a download token.
    ///
    /// # Errors
    /// [`InfoError`](crate::InfoError); status 404 when there is no such file.
    pub async fn file(&self, id: FileId, zone: Option<&Zone>, grant: bool) -> Result<FileDetails> {
        let zone = zone.map(Zone::as_str).unwrap_or_default();
        let grant = if grant { "true" } else { "false" };
        let request = self.transport.request(Method::GET, &format!("v1/files/{id}"));
        self.transport.fetch(request.query(&[("zone", zone), ("grant", grant)])).await
    }

    /// Returns the manifest of a file.
    ///
    /// # Errors
    /// [`InfoError`](crate::InfoError).
    pub async fn manifest(&self, id: FileId) -> Result<Manifest> {
        self.transport.fetch(self.transport.request(Method::GET, &format!("v1/files/{id}/manifest"))).await
    }

    /// Returns a file's Metalink 4 document (RFC 5854), for download programs other than DDM's.
    ///
    /// # Errors
    /// [`InfoError`](crate::InfoError); status 409 when the file is not published yet.
    pub async fn metalink(&self, id: FileId, zone: Option<&Zone>) -> Result<String> {
        let zone = zone.map(Zone::as_str).unwrap_or_default();
        let request = self.transport.request(Method::GET, &format!("v1/files/{id}/metalink")).query(&[("zone", zone)]);
        String::from_utf8(self.transport.send(request).await?).map_err(|error| self.transport.unusable(error))
    }

    /// Returns a further download token, for a download that outlives its first one.
    ///
    /// # Errors
    /// [`InfoError`](crate::InfoError).
    pub async fn renew_token(&self, id: FileId) -> Result<IssuedToken> {
        self.transport.fetch(self.transport.request(Method::POST, &format!("v1/files/{id}/tokens"))).await
    }
}
