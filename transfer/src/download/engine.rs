//! The engine: its settings and its surroundings.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::directory::Directory;
use crate::{progress::Progress, rate_limiter::RateLimiter};

/// The settings of a download.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Requests in flight at one source, at least 1. Two keep a connection full while one of them ends; links with much
    /// delay or loss gain from more.
    pub connections: usize,
    /// Requests in flight, when that is more, at a source that gives each of them a fair rate: few connections do not fill
    /// a link that is busy in the other direction.
    pub fast_connections: usize,
    /// Time without a verified chunk after which a download with no source left ends.
    pub wait: Duration,
    /// The limit on received bytes.
    pub rate_limiter: RateLimiter,
    /// Set if far sources serve only what no near source holds. Otherwise they also help where near ones give far less.
    pub strict_tiers: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            connections: 2,
            fast_connections: 0,
            wait: Duration::from_secs(60),
            rate_limiter: RateLimiter::default(),
            strict_tiers: false,
        }
    }
}

/// Downloads files from many sources at once.
pub struct Engine {
    /// Built from [`crate::source::client_builder`].
    pub client: reqwest::Client,
    /// The settings.
    pub settings: Settings,
    /// Supplies tokens, sources and digests.
    pub directory: Arc<dyn Directory>,
    /// The view for a user interface; one per download.
    pub progress: Progress,
    /// Ends the download soon and resumably.
    pub cancel: CancellationToken,
}
