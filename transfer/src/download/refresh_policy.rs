//! The policy of when, and for what, the engine asks the directory.

use std::time::Duration;

use super::directory::RefreshReason;
use crate::schedule::Missing;

/// Pause after an answer that brought something new, and the first pause after one that did not.
const MIN_REFRESH_PAUSE: Duration = Duration::from_millis(500);
/// Longest pause between two requests to the directory.
const MAX_REFRESH_PAUSE: Duration = Duration::from_secs(8);

/// Decides when to ask. Pauses double while the same lack persists, so that a directory in trouble is not pressed.
#[derive(Debug, Default)]
pub(super) struct RefreshPolicy {
    in_progress: bool,
    not_before: Duration,
    pause: Duration,
    /// Time at which the token is to be renewed, since the start of the download.
    renew_at: Option<Duration>,
}

impl RefreshPolicy {
    /// Records that a token that lives for another `lifetime` is in use from now on.
    pub(super) fn token_in_use(&mut self, lifetime: Duration, now: Duration) {
        self.renew_at = Some(now + lifetime / 2);
    }

    /// Returns what to ask for now, most urgent first. The caller reports the end of that by [`RefreshPolicy::finished`].
    pub(super) fn start(&mut self, missing: Missing, now: Duration) -> Option<RefreshReason> {
        let is_expiring = self.renew_at.is_some_and(|at| now >= at);
        let reason = match missing {
            Missing { token: true, .. } => RefreshReason::TokenRefused,
            Missing { sources: true, .. } => RefreshReason::NoSources,
            Missing { digests: true, .. } => RefreshReason::MoreDigests,
            Missing { .. } if is_expiring => RefreshReason::TokenExpiring,
            Missing { .. } => {
                self.pause = Duration::ZERO;
                return None;
            }
        };
        if self.in_progress || now < self.not_before {
            return None;
        }
        self.in_progress = true;
        Some(reason)
    }

    /// Shortens the pause: what the directory said last may no longer be so.
    pub(super) fn ask_soon(&mut self, now: Duration) {
        self.not_before = self.not_before.min(now + MIN_REFRESH_PAUSE);
    }

    /// Records that the directory has answered or failed. After something new, more may follow soon.
    pub(super) fn finished(&mut self, brought_new: bool, now: Duration) {
        self.in_progress = false;
        let longer = (self.pause * 2).clamp(MIN_REFRESH_PAUSE, MAX_REFRESH_PAUSE);
        self.pause = if brought_new { MIN_REFRESH_PAUSE } else { longer };
        self.not_before = now + self.pause;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn one_request_at_a_time_and_longer_pauses_while_the_lack_persists() {
        let mut policy = RefreshPolicy::default();
        let lack = Missing { sources: true, ..Missing::default() };
        let mut asked = Vec::new();
        for tenth in 0..300 {
            let now = SECOND * tenth / 10;
            if policy.start(lack, now).is_some() {
                assert_eq!(policy.start(lack, now), None);
                asked.push(tenth);
                policy.finished(false, now);
            }
        }
        assert_eq!(asked, [0, 5, 15, 35, 75, 155, 235]);
    }

    #[test]
    fn a_token_is_renewed_at_half_of_its_life() {
        let mut policy = RefreshPolicy::default();
        policy.token_in_use(SECOND * 900, SECOND);
        assert_eq!(policy.start(Missing::default(), SECOND * 450), None);
        assert_eq!(policy.start(Missing::default(), SECOND * 451), Some(RefreshReason::TokenExpiring));
        policy.token_in_use(SECOND * 900, SECOND * 451);
        policy.finished(true, SECOND * 451);
        assert_eq!(policy.start(Missing::default(), SECOND * 460), None);
    }
}
