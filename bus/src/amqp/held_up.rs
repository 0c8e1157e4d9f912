//! Routing keys whose messages the broker does not confirm. Pure.
//!
//! The broker confirms a message once every queue it went to has it, and works a channel off in order. A quorum queue without
//! a leader (its node was killed while it was young, or a majority is away) takes nothing, and all behind its first message
//! waits. Which queue it is the broker does not say: known is the routing key of the first message that is not confirmed.
//! That key is held back for a while, so that the others' messages go on; the log covers what is held back.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

/// How long a confirm may take once the broker has read the message. A busy disk takes its time.
const PATIENCE: Duration = Duration::from_secs(4);
/// The same where the last one did not come.
const GRACE: Duration = Duration::from_secs(1);
/// How long a key is held back before it is tried again.
const BACK: Duration = Duration::from_secs(10);
/// Keys remembered.
const MOST: usize = 4096;

/// The keys that are held back, each until it is to be tried again.
#[derive(Debug, Default)]
pub(super) struct HeldUp(HashMap<String, Instant>);

impl HeldUp {
    /// Whether a message with this key is not to be sent now.
    pub(super) fn holds(&self, key: &str, now: Instant) -> bool {
        self.0.get(key).is_some_and(|until| now < *until)
    }

    /// How long a message with this key is waited for.
    pub(super) fn patience(&self, key: &str) -> Duration {
        if self.0.contains_key(key) { GRACE } else { PATIENCE }
    }

    /// A message with this key was not confirmed in time.
    pub(super) fn blame(&mut self, key: &str, now: Instant) {
        if self.0.len() >= MOST {
            self.0.retain(|_, until| now < *until);
        }
        if self.0.insert(key.to_owned(), now + BACK).is_none() {
            tracing::warn!(
                key,
                "event bus: a queue does not take messages of this key: they are held back, the log has them"
            );
        }
    }

    /// A message with this key was confirmed.
    pub(super) fn clear(&mut self, key: &str) {
        if self.0.remove(key).is_some() {
            tracing::info!(key, "event bus: messages of this key are taken again");
        }
    }

    /// What stood in the way may be gone: everything is tried again at once.
    pub(super) fn try_again(&mut self, now: Instant) {
        self.0.values_mut().for_each(|until| *until = now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_was_not_confirmed_is_held_back_and_tried_again_until_it_is() {
        let (mut held_up, now) = (HeldUp::default(), Instant::now());
        assert!(!held_up.holds("a", now) && held_up.patience("a") == PATIENCE);
        held_up.blame("a", now);
        assert!(held_up.holds("a", now) && !held_up.holds("b", now) && !held_up.holds("a", now + BACK));
        assert_eq!(held_up.patience("a"), GRACE);
        held_up.try_again(now);
        assert!(!held_up.holds("a", now) && held_up.patience("a") == GRACE);
        held_up.clear("a");
        assert_eq!(held_up.patience("a"), PATIENCE);
    }

    #[test]
    fn the_keys_are_bounded() {
        let (mut held_up, now) = (HeldUp::default(), Instant::now());
        for n in 0..=2 * MOST {
            held_up.blame(&n.to_string(), now + BACK * u32::from(n > MOST));
        }
        assert!(held_up.0.len() <= MOST + 1, "{}", held_up.0.len());
    }
}
