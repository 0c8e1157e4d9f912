//! The connections that one origin may have, over the whole cluster. Pure.
//!
//! Invariant: the connections of all live leases at one origin never exceed its limit, and no new lease is granted while the
//! origin asked for a pause.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// The first pause after an overload, doubled with each further one. An origin that asks for another one never gets a shorter one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(60);
/// The longest pause that an origin may ask for.
const MAX_REQUESTED_PAUSE: Duration = Duration::from_secs(600);
/// The pause after a refusal by an origin that gave a chunk just now: it has not seen yet that a connection ended.
const SHORT_PAUSE: Duration = Duration::from_millis(250);
/// Age of the last chunk up to which an origin gave it just now.
const SUCCESS_AGE: Duration = Duration::from_secs(2);
/// Time without a refusal after which an origin gets one more connection; doubled with each one that is refused, as some origins
/// have a limit that does not move.
const FIRST_RAISE_INTERVAL: Duration = Duration::from_secs(5);
const MAX_RAISE_INTERVAL: Duration = Duration::from_secs(80);
/// Refusals this close together are of one cause.
const OVERLOAD_SPAN: Duration = Duration::from_millis(500);

/// An origin that refused requests.
#[derive(Debug, Clone, Copy)]
struct Limit {
    connections: u32,
    paused_until: Option<Instant>,
    /// The pause after the next overload without `Retry-After`.
    next_pause: Duration,
    /// The time of the last change.
    changed: Instant,
    raise_interval: Duration,
    last_success: Option<Instant>,
    /// The first of the last refusals of one cause, and the connections before it.
    refused_since: Instant,
    connections_before: u32,
    /// Set once the next pause has grown by them.
    pause_grew: bool,
}

/// A refusal of an origin that is too busy.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Refusal {
    /// The pause that the origin asks for.
    pub(crate) retry_after: Option<Duration>,
    /// Connections at the origin that were not refused.
    pub(crate) others: u32,
}

/// The limits of all origins; one that did not refuse lately has the default.
#[derive(Debug)]
pub(crate) struct OriginBudget {
    default_connections: u32,
    limits: BTreeMap<String, Limit>,
}

impl OriginBudget {
    pub(crate) const fn new(default_connections: u32) -> Self {
        Self { default_connections, limits: BTreeMap::new() }
    }

    /// Returns the connections that an origin may have now; 0 during a pause.
    pub(crate) fn connections(&self, origin: &str, now: Instant) -> u32 {
        match self.limits.get(origin) {
            None => self.default_connections,
            Some(limit) if limit.paused_until.is_some_and(|until| now < until) => 0,
            Some(limit) => limit.connections,
        }
    }

    /// Returns the rest of the origin's pause.
    pub(crate) fn remaining_pause(&self, origin: &str, now: Instant) -> Option<Duration> {
        let until = self.limits.get(origin)?.paused_until?;
        Some(until.saturating_duration_since(now)).filter(|left| !left.is_zero())
    }

    /// Takes in that an origin refused a connection. If it serves others, it has a limit: it gets no more than these, at once and
    /// without a pause. If it serves none, it is overloaded: it gets a pause, and half as many connections.
    pub(crate) fn note_refusal(&mut self, origin: &str, refusal: Refusal, now: Instant) {
        let connections = self.default_connections;
        let fresh = Limit {
            connections,
            paused_until: None,
            next_pause: FIRST_PAUSE,
            changed: now,
            raise_interval: FIRST_RAISE_INTERVAL,
            last_success: None,
            refused_since: now,
            connections_before: connections,
            pause_grew: false,
        };
        let is_first = !self.limits.contains_key(origin);
        let limit = self.limits.entry(origin.to_owned()).or_insert(fresh);
        let is_same_cause = !is_first && now.saturating_duration_since(limit.refused_since) < OVERLOAD_SPAN;
        if !is_first && !is_same_cause {
            (limit.refused_since, limit.connections_before, limit.pause_grew) = (now, limit.connections, false);
            limit.raise_interval = (limit.raise_interval * 2).min(MAX_RAISE_INTERVAL);
        }
        limit.changed = now;
        let asked = refusal.retry_after.filter(|asked| !asked.is_zero());
        if refusal.others > 0 {
            limit.connections = limit.connections.min(refusal.others);
            asked.into_iter().for_each(|asked| limit.pause(asked, now));
            return;
        }
        let serves = limit.last_success.is_some_and(|at| now.saturating_duration_since(at) < SUCCESS_AGE);
        if serves && asked.is_none() {
            limit.pause(SHORT_PAUSE, now);
            return;
        }
        // No connection is left: those that were taken for served ones a moment ago were refused, too.
        limit.connections = (limit.connections_before / 2).max(1);
        limit.pause(asked.unwrap_or_default().max(limit.next_pause), now);
        if !std::mem::replace(&mut limit.pause_grew, true) {
            limit.next_pause = (limit.next_pause * 2).min(MAX_PAUSE);
        }
    }

    /// Takes in that a chunk came from an origin: after a while it gets one more connection.
    pub(crate) fn note_success(&mut self, origin: &str, now: Instant) {
        let default_connections = self.default_connections;
        let Some(limit) = self.limits.get_mut(origin) else { return };
        limit.last_success = Some(now);
        let is_calm = limit.paused_until.is_none_or(|until| now >= until);
        if is_calm && now.saturating_duration_since(limit.changed) >= limit.raise_interval {
            limit.changed = now;
            limit.connections += 1;
            limit.next_pause = FIRST_PAUSE;
            if limit.connections >= default_connections {
                self.limits.remove(origin);
            }
        }
    }

    /// Forgets the origins that no job uses any more.
    pub(crate) fn retain(&mut self, is_used: impl Fn(&str) -> bool, now: Instant) {
        self.limits.retain(|origin, limit| is_used(origin) || limit.paused_until.is_some_and(|until| now < until));
    }
}

impl Limit {
    /// Grants no connection for this long; a pause that runs is not cut short.
    fn pause(&mut self, pause: Duration, now: Instant) {
        let until = now + pause.min(MAX_REQUESTED_PAUSE);
        self.paused_until = Some(self.paused_until.map_or(until, |before| before.max(until)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overload(retry_after: Option<u64>) -> Refusal {
        Refusal { retry_after: retry_after.map(Duration::from_secs), others: 0 }
    }

    const fn beside(others: u32) -> Refusal {
        Refusal { retry_after: None, others }
    }

    #[test]
    fn an_origin_that_refuses_all_gets_a_pause_and_then_half_as_many_connections() {
        let (mut budget, now) = (OriginBudget::new(32), Instant::now());
        assert_eq!(budget.connections("o", now), 32);
        budget.note_refusal("o", overload(Some(3)), now);
        budget.note_refusal("o", overload(None), now + Duration::from_millis(1));
        assert_eq!((budget.connections("o", now), budget.connections("other", now)), (0, 32));
        let later = now + Duration::from_secs(3);
        assert_eq!(budget.connections("o", later), 16);
        // Connections that were refused one after the other, a moment apart.
        for others in (0..6).rev() {
            budget.note_refusal("o", beside(others), later);
        }
        assert_eq!(budget.remaining_pause("o", later), Some(Duration::from_secs(2)), "twice as long as the first one");
        let calm = later + Duration::from_secs(70);
        assert_eq!(budget.connections("o", calm), 8, "half of what it was before, however they were refused");
        budget.note_success("o", calm);
        assert_eq!(budget.connections("o", calm), 9);
    }

    #[test]
    fn the_limit_of_an_origin_is_found_at_once_and_without_a_pause() {
        let (mut budget, now) = (OriginBudget::new(32), Instant::now());
        for others in (1..6).rev() {
            budget.note_refusal("o", beside(others), now);
        }
        assert_eq!((budget.connections("o", now), budget.remaining_pause("o", now)), (1, None));
        // The end of its one connection reaches the origin a moment later than the workers.
        let later = now + Duration::from_secs(1);
        budget.note_success("o", later);
        budget.note_refusal("o", overload(None), later);
        assert_eq!(budget.remaining_pause("o", later), Some(SHORT_PAUSE));
        assert_eq!(budget.connections("o", later + SHORT_PAUSE), 1);
    }

    #[test]
    fn a_limit_that_does_not_move_is_tried_ever_less_often() {
        let (mut budget, start) = (OriginBudget::new(32), Instant::now());
        budget.note_refusal("o", beside(1), start);
        let (mut tried, mut seconds) = (Vec::new(), 0);
        while seconds < 300 {
            seconds += 1;
            let now = start + Duration::from_secs(seconds);
            budget.note_success("o", now);
            if budget.connections("o", now) == 2 {
                tried.push(seconds);
                budget.note_refusal("o", beside(1), now);
            }
            assert!(budget.remaining_pause("o", now).is_none());
        }
        assert_eq!(tried, [5, 15, 35, 75, 155, 235]);
        // Once it moves, one connection after the other is added.
        let calm = start + Duration::from_secs(400);
        budget.note_success("o", calm);
        budget.note_success("o", calm + MAX_RAISE_INTERVAL);
        assert_eq!(budget.connections("o", calm + MAX_RAISE_INTERVAL), 3);
    }

    #[test]
    fn a_pause_grows_though_the_origin_asks_for_none_and_is_kept_if_it_asks_for_more() {
        let (mut budget, mut now) = (OriginBudget::new(4), Instant::now());
        let mut pauses = Vec::new();
        for _ in 0..8 {
            budget.note_refusal("o", overload(Some(0)), now);
            pauses.push(budget.remaining_pause("o", now).unwrap().as_secs());
            now += Duration::from_secs(61);
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        budget.note_refusal("o", overload(Some(90)), now);
        assert_eq!(budget.remaining_pause("o", now), Some(Duration::from_secs(90)));
        // Also while it serves others.
        budget.note_refusal("p", Refusal { retry_after: Some(Duration::from_secs(5)), others: 1 }, now);
        assert_eq!(budget.remaining_pause("p", now), Some(Duration::from_secs(5)));
    }

    #[test]
    fn pauses_grow_to_a_minute_and_an_origin_cannot_ask_for_a_day() {
        let (mut budget, mut now) = (OriginBudget::new(4), Instant::now());
        for _ in 0..20 {
            budget.note_refusal("o", overload(None), now);
            now += Duration::from_secs(61);
            assert!(budget.connections("o", now) >= 1);
        }
        budget.note_refusal("o", overload(None), now);
        assert_eq!(budget.remaining_pause("o", now), Some(MAX_PAUSE));
        budget.note_refusal("o", overload(Some(86_400)), now);
        assert_eq!(budget.remaining_pause("o", now), Some(MAX_REQUESTED_PAUSE));
    }
}
