//! How many may touch one origin, over the whole cluster. Pure.
//!
//! Invariant: the connections of all live leases at one origin never exceed its cap, and no new lease is given while the
//! origin asked for a pause.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// The first pause after a refusal without `Retry-After`, doubled with each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// The longest pause that an origin may ask for.
const LONGEST_ASKED: Duration = Duration::from_secs(600);
/// How long an origin must have been content before it gets one more connection.
const RAISE_EVERY: Duration = Duration::from_secs(5);
/// Refusals this close together are of one overload.
const ONE_OVERLOAD: Duration = Duration::from_millis(500);

#[derive(Debug, Clone, Copy)]
struct Origin {
    cap: u32,
    paused_until: Option<Instant>,
    pause: Duration,
    changed: Instant,
}

/// All origins that complained.
#[derive(Debug)]
pub(crate) struct Origins {
    most: u32,
    known: BTreeMap<String, Origin>,
}

impl Origins {
    pub(crate) const fn new(most: u32) -> Self {
        Self { most, known: BTreeMap::new() }
    }

    /// Connections that an origin may have now; 0 during a pause.
    pub(crate) fn cap(&self, origin: &str, now: Instant) -> u32 {
        match self.known.get(origin) {
            None => self.most,
            Some(known) if known.paused_until.is_some_and(|until| now < until) => 0,
            Some(known) => known.cap,
        }
    }

    /// How long the pause still lasts.
    pub(crate) fn pause(&self, origin: &str, now: Instant) -> Option<Duration> {
        let until = self.known.get(origin)?.paused_until?;
        Some(until.saturating_duration_since(now)).filter(|left| !left.is_zero())
    }

    /// An origin said that it is too busy.
    pub(crate) fn refuse(&mut self, origin: &str, retry_after: Option<Duration>, now: Instant) {
        let fresh = Origin { cap: self.most, paused_until: None, pause: FIRST_PAUSE, changed: now };
        let first = !self.known.contains_key(origin);
        let known = self.known.entry(origin.to_owned()).or_insert(fresh);
        let same = !first && now.saturating_duration_since(known.changed) < ONE_OVERLOAD;
        let pause = retry_after.map_or(known.pause, |asked| asked.clamp(FIRST_PAUSE, LONGEST_ASKED));
        let until = now + pause;
        known.paused_until = Some(known.paused_until.map_or(until, |before| before.max(until)));
        if !same {
            known.cap = (known.cap / 2).max(1);
            known.pause = (known.pause * 2).min(LONGEST_PAUSE);
            known.changed = now;
        }
    }

    /// A chunk came from an origin: after a while it may be asked for more.
    pub(crate) fn content(&mut self, origin: &str, now: Instant) {
        let most = self.most;
        let Some(known) = self.known.get_mut(origin) else { return };
        let calm = known.paused_until.is_none_or(|until| now >= until);
        if calm && now.saturating_duration_since(known.changed) >= RAISE_EVERY {
            known.changed = now;
            known.cap += 1;
            known.pause = FIRST_PAUSE;
            if known.cap >= most {
                self.known.remove(origin);
            }
        }
    }

    /// Forgets origins that nobody asks for any more.
    pub(crate) fn keep(&mut self, wanted: impl Fn(&str) -> bool, now: Instant) {
        self.known.retain(|origin, known| wanted(origin) || known.paused_until.is_some_and(|until| now < until));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_that_complains_is_left_alone_and_then_asked_for_half_as_much() {
        let (mut origins, now) = (Origins::new(32), Instant::now());
        assert_eq!(origins.cap("o", now), 32);
        origins.refuse("o", Some(Duration::from_secs(3)), now);
        origins.refuse("o", None, now + Duration::from_millis(1));
        assert_eq!((origins.cap("o", now), origins.cap("other", now)), (0, 32));
        let later = now + Duration::from_secs(3);
        assert_eq!(origins.cap("o", later), 16);
        origins.refuse("o", None, later);
        assert_eq!(origins.pause("o", later), Some(Duration::from_secs(2)), "twice as long as the first time");
        let calm = later + Duration::from_secs(5);
        origins.content("o", calm);
        assert_eq!(origins.cap("o", calm), 9);
    }

    #[test]
    fn pauses_grow_to_a_minute_and_no_origin_asks_for_a_day() {
        let (mut origins, mut now) = (Origins::new(4), Instant::now());
        for _ in 0..20 {
            origins.refuse("o", None, now);
            now += Duration::from_secs(61);
            assert!(origins.cap("o", now) >= 1);
        }
        origins.refuse("o", None, now);
        assert_eq!(origins.pause("o", now), Some(LONGEST_PAUSE));
        origins.refuse("o", Some(Duration::from_secs(86_400)), now);
        assert_eq!(origins.pause("o", now), Some(LONGEST_ASKED));
    }
}
