//! A server that chunks can be taken from.

use std::time::Duration;

use reqwest::redirect;
use wire::catalog::Location;

/// How long opening a connection may take.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// A server that chunks can be taken from.
#[derive(Debug, Clone)]
pub struct Source {
    /// Which server, where, and what it holds.
    pub location: Location,
    /// How far away it is, 0 for the own zone: a source is left alone while a nearer one lives that holds the chunk.
    pub tier: u8,
}

/// The settings every client of bulk transfers needs: bounded connects, HTTP/1.1, and neither redirects nor the
/// system's proxy unless the caller adds one. Callers may add certificates or a proxy before they build it.
pub fn client_builder() -> reqwest::ClientBuilder {
    // No read time-out here: the schedule notices a stall and says how patient it is with which source.
    reqwest::Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .redirect(redirect::Policy::none())
        .no_proxy()
        .http1_only()
}
