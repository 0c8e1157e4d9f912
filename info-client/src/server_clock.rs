//! The info-server's time, as its answers tell it. The clock of this machine may be wrong by hours, and decides nothing.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use jiff::Timestamp;
use reqwest::header::{DATE, HeaderMap};

/// Clock of the info-server. Clones share one reading.
#[derive(Debug, Clone, Default)]
pub(crate) struct ServerClock(Arc<Mutex<Option<Reading>>>);

#[derive(Debug, Clone, Copy)]
struct Reading {
    server: Timestamp,
    local: Instant,
}

impl ServerClock {
    /// Reads the time of an answer that arrives now.
    pub(crate) fn read(&self, headers: &HeaderMap) {
        if let Some(server) = headers.get(DATE).and_then(|date| parse(date.to_str().ok()?)) {
            self.set(server);
        }
    }

    /// Takes `server` as the info-server's present time.
    pub(crate) fn set(&self, server: Timestamp) {
        let reading = Reading { server, local: Instant::now() };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(reading);
    }

    /// Returns the info-server's present time; none before its first answer.
    pub(crate) fn now(&self) -> Option<Timestamp> {
        let Reading { server, local } = (*self.0.lock().unwrap_or_else(PoisonError::into_inner))?;
        server.checked_add(local.elapsed()).ok()
    }
}

/// Parses an HTTP date (RFC 9110 §5.6.7) in the form that must be sent.
fn parse(date: &str) -> Option<Timestamp> {
    jiff::fmt::rfc2822::parse(date).ok().map(|date| date.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_the_latest_answer_counts_and_goes_on() {
        let clock = ServerClock::default();
        assert_eq!(clock.now(), None);
        for (date, reads) in [
            ("Sun, 06 Nov 1994 08:49:37 GMT", "1994-11-06T08:49:37Z"),
            ("soon", "1994-11-06T08:49:37Z"),
            ("Mon, 01 Jan 2091 00:00:00 GMT", "2091-01-01T00:00:00Z"),
        ] {
            clock.read(&HeaderMap::from_iter([(DATE, date.parse().unwrap())]));
            let (now, expected) = (clock.now().unwrap(), reads.parse().unwrap());
            assert!(now >= expected && now.duration_since(expected).as_secs() < 5, "{date}: {now}");
        }
    }
}
