//! Routing keys whose messages the broker does not confirm. Pure.
//!
//! The broker confirms a message once every queue that it was routed to has stored it, and processes a channel in order. A quorum
//! queue without a leader (its node was killed soon after it was declared, or a majority is away) stores nothing, and every
//! message behind its first one waits. The broker does not say which queue it is; known is only the routing key of the first
//! unconfirmed message. That key is held back for a while, so that messages of other keys go on. Servers read the messages that
//! are held back from the log.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

/// Time for a confirm after the broker has read the message. It allows for a busy disk.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(4);
/// Time for a confirm of a key whose last message was not confirmed.
const RETRY_CONFIRM_TIMEOUT: Duration = Duration::from_secs(1);
/// Time for which a key is held back before it is tried again.
const HOLD_BACK: Duration = Duration::from_secs(10);
/// Number of keys above which those that are due are forgotten.
const MAX_KEYS: usize = 4096;

/// Keys that are held back, each with the time of its next attempt.
#[derive(Debug, Default)]
pub(super) struct UnconfirmedKeys(HashMap<String, Instant>);

impl UnconfirmedKeys {
    /// Returns true if messages of this key must not be sent at `now`.
    pub(super) fn holds_back(&self, key: &str, now: Instant) -> bool {
        self.0.get(key).is_some_and(|until| now < *until)
    }

    /// Returns the time to wait for the confirm of a message of this key.
    pub(super) fn confirm_timeout(&self, key: &str) -> Duration {
        if self.0.contains_key(key) { RETRY_CONFIRM_TIMEOUT } else { CONFIRM_TIMEOUT }
    }

    /// Holds a key back because its message was not confirmed in time.
    pub(super) fn hold_back(&mut self, key: &str, now: Instant) {
        if self.0.len() >= MAX_KEYS {
            self.0.retain(|_, until| now < *until);
        }
        if self.0.insert(key.to_owned(), now + HOLD_BACK).is_none() {
            tracing::warn!(
                key,
                "Event bus: a queue does not confirm messages of {key}; they are held back, servers read them from the log"
            );
        }
    }

    /// Releases a key because its message was confirmed.
    pub(super) fn release(&mut self, key: &str) {
        if self.0.remove(key).is_some() {
            tracing::info!(key, "Event bus: messages of {key} are confirmed again");
        }
    }

    /// Makes every key due at `now`, because the queue that did not confirm may be gone.
    pub(super) fn retry_all(&mut self, now: Instant) {
        self.0.values_mut().for_each(|until| *until = now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_was_not_confirmed_is_held_back_and_tried_again_until_it_is() {
        let (mut keys, now) = (UnconfirmedKeys::default(), Instant::now());
        assert!(!keys.holds_back("a", now) && keys.confirm_timeout("a") == CONFIRM_TIMEOUT);
        keys.hold_back("a", now);
        assert!(keys.holds_back("a", now) && !keys.holds_back("b", now) && !keys.holds_back("a", now + HOLD_BACK));
        assert_eq!(keys.confirm_timeout("a"), RETRY_CONFIRM_TIMEOUT);
        keys.retry_all(now);
        assert!(!keys.holds_back("a", now) && keys.confirm_timeout("a") == RETRY_CONFIRM_TIMEOUT);
        keys.release("a");
        assert_eq!(keys.confirm_timeout("a"), CONFIRM_TIMEOUT);
    }

    #[test]
    fn the_keys_are_bounded() {
        let (mut keys, now) = (UnconfirmedKeys::default(), Instant::now());
        for n in 0..=2 * MAX_KEYS {
            keys.hold_back(&n.to_string(), now + HOLD_BACK * u32::from(n > MAX_KEYS));
        }
        assert!(keys.0.len() <= MAX_KEYS + 1, "{}", keys.0.len());
    }
}
