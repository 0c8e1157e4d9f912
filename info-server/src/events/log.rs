//! Announcements of committed events, for requests and tasks that wait for news.

use tokio::sync::watch;

/// The newest committed events.
#[derive(Debug, Clone)]
pub struct EventLog {
    /// Newest sequence number of all streams.
    newest: watch::Sender<u64>,
    /// Newest sequence number of the stream for all servers, some moments later.
    newest_broadcast: watch::Sender<u64>,
}

impl EventLog {
    /// Makes a log in which no event was announced yet.
    pub(crate) fn new() -> Self {
        Self { newest: watch::Sender::new(0), newest_broadcast: watch::Sender::new(0) }
    }

    /// Announces an event; to be called after its commit.
    pub fn announce(&self, seq: u64) {
        raise(&self.newest, seq);
    }

    /// Announces an event of the stream for all servers.
    pub(crate) fn announce_broadcast(&self, seq: u64) {
        raise(&self.newest_broadcast, seq);
    }

    /// Follows the newest event of all streams.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    /// Follows the newest event of the stream for all servers.
    pub(crate) fn subscribe_broadcast(&self) -> watch::Receiver<u64> {
        self.newest_broadcast.subscribe()
    }
}

fn raise(newest: &watch::Sender<u64>, seq: u64) {
    newest.send_if_modified(|newest| {
        let newer = seq > *newest;
        *newest = seq.max(*newest);
        newer
    });
}
