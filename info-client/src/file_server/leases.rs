//! Spans of collaborative downloads.

use reqwest::Method;
use wire::{
    JobId,
    job::{LeaseClaim, LeaseOffer, LeaseRenewal, LeaseReport},
};

use super::FileServerClient;
use crate::Result;

impl FileServerClient {
    /// Claims a span of a job.
    ///
    /// # Errors
    /// [`InfoError`](crate::InfoError).
    pub async fn claim_lease(&self, job: JobId, claim: &LeaseClaim) -> Result<LeaseOffer> {
        let request = self.transport.request(Method::POST, &format!("v1/jobs/{job}/leases"));
        self.transport.fetch(request.json(claim)).await
    }

    /// Renews a lease and reports the chunks that were fetched under it.
    ///
    /// # Errors
    /// [`InfoError`](crate::InfoError); status 409 when the fence is stale.
    pub async fn renew_lease(&self, job: JobId, fence: u64, report: &LeaseReport) -> Result<LeaseRenewal> {
        let request = self.transport.request(Method::PUT, &format!("v1/jobs/{job}/leases/{fence}"));
        self.transport.fetch(request.json(report)).await
    }
}
