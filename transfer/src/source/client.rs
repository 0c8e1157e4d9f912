//! The HTTP client of bulk transfers.

use std::time::Duration;

use reqwest::redirect;

/// Time to open a connection.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Time for which an unused connection is kept.
const IDLE_TIMEOUT: Duration = Duration::from_secs(15);

/// Returns the settings that every client of bulk transfers needs: bounded connects, HTTP/1.1, and neither redirects nor the
/// system's proxy unless the caller adds one. Callers may add certificates or a proxy before they build it.
pub fn client_builder() -> reqwest::ClientBuilder {
    // No read time-out here: the scheduler notices a stall and decides how long each source may be silent.
    reqwest::Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .redirect(redirect::Policy::none())
        .no_proxy()
        .http1_only()
}
