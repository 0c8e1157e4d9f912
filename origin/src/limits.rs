//! Bounds on the time and the speed of an origin.

use std::time::Duration;

/// Longest time that a server waits for the next byte of an origin, unless it is set: a job has other workers, and its requesters
/// can fetch the file directly.
pub const SERVER_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest time that a program waits for the next byte of an origin on behalf of its own user, unless it is set.
pub const USER_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest time to open a connection. It includes the look-up of the name, whose first name server may not answer, and addresses
/// of the name that do not answer.
const MAX_CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// `User-Agent` of requests to origins.
pub(crate) const USER_AGENT: &str = concat!("ddm/", env!("CARGO_PKG_VERSION"));
/// Most header lines in a response; the bytes of a head are bounded by the HTTP library.
pub(crate) const MAX_RESPONSE_HEADERS: usize = 2000;

/// Bounds on one request to an origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Time for a probe, redirects included.
    pub probe_timeout: Duration,
    /// Time to open one connection: look-up of the name, all its addresses, TLS.
    pub connect_timeout: Duration,
    /// Time from a request to the head of its response.
    pub head_timeout: Duration,
    /// Time for which a body may bring nothing.
    pub idle_timeout: Duration,
    /// Time over which the speed of a body is measured.
    pub rate_window: Duration,
    /// Slowest speed of a body over a window, in bytes per second. It gives every body of known length a deadline.
    pub min_rate: u64,
    /// Redirects that one request follows.
    pub max_redirects: u32,
}

impl Limits {
    /// Returns the limits of a server that waits `timeout` for the next byte.
    pub fn of_server(timeout: Duration) -> Self {
        Self {
            // The requester waits for the probe, and for the permit that it needs.
            probe_timeout: Duration::from_secs(25),
            connect_timeout: timeout.min(MAX_CONNECT_TIMEOUT / 2),
            head_timeout: timeout,
            idle_timeout: timeout,
            // One pause of the longest kind does not make a body slow.
            rate_window: timeout * 2,
            min_rate: 4 << 10,
            max_redirects: 10,
        }
    }

    /// Returns the limits of a program that waits `timeout` for the next byte, and as long as its user wants for the last.
    pub fn of_user(timeout: Duration) -> Self {
        let connect_timeout = timeout.min(MAX_CONNECT_TIMEOUT);
        Self { connect_timeout, min_rate: 0, max_redirects: 20, ..Self::of_server(timeout) }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::of_server(SERVER_TIMEOUT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_first_byte_and_a_pause_are_waited_for_and_no_wait_is_without_end() {
        for (limits, timeout) in [(Limits::default(), SERVER_TIMEOUT), (Limits::of_user(USER_TIMEOUT), USER_TIMEOUT)] {
            assert!(limits.head_timeout == timeout && limits.idle_timeout == timeout);
            assert!(limits.head_timeout > Duration::from_secs(20) && limits.probe_timeout > Duration::from_secs(20));
            // A name server that does not answer costs 5 s.
            assert!(limits.connect_timeout > Duration::from_secs(10));
            assert!(limits.rate_window > limits.idle_timeout, "a pause alone is no slow body");
        }
        let short = Limits::of_user(Duration::from_secs(3));
        assert_eq!((short.connect_timeout, short.head_timeout), (Duration::from_secs(3), Duration::from_secs(3)));
    }
}
