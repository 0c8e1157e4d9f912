//! When the directory is asked, and how often.

use std::time::Duration;

use super::Why;
use crate::schedule::Missing;

const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(8);

/// Decides when to ask. Pauses double while the same lack goes on, so that a directory in trouble is not pressed.
#[derive(Debug, Default)]
pub(super) struct Asking {
    running: bool,
    not_before: Duration,
    pause: Duration,
    /// When the token is to be renewed, since the start of the download.
    renew_at: Option<Duration>,
}

impl Asking {
    /// A token that lives for another `lifetime` is in use from now on.
    pub(super) fn token_in_use(&mut self, lifetime: Duration, now: Duration) {
        self.renew_at = Some(now + lifetime / 2);
    }

    /// What to ask for now, most urgent first. The caller reports the end by [`Asking::answered`].
    pub(super) fn next(&mut self, missing: Missing, now: Duration) -> Option<Why> {
        let expiring = self.renew_at.is_some_and(|at| now >= at);
        let why = match missing {
            Missing { token: true, .. } => Why::TokenRefused,
            Missing { sources: true, .. } => Why::NoSources,
            Missing { digests: true, .. } => Why::MoreDigests,
            Missing { .. } if expiring => Why::TokenExpiring,
            Missing { .. } => {
                self.pause = Duration::ZERO;
                return None;
            }
        };
        if self.running || now < self.not_before {
            return None;
        }
        self.running = true;
        Some(why)
    }

    /// The directory answered, or failed to. When there was `news`, there may soon be more.
    pub(super) fn answered(&mut self, news: bool, now: Duration) {
        self.running = false;
        self.pause = if news { FIRST_PAUSE } else { (self.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE) };
        self.not_before = now + self.pause;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn one_question_at_a_time_and_longer_pauses_while_the_lack_goes_on() {
        let mut asking = Asking::default();
        let lack = Missing { sources: true, ..Missing::default() };
        let mut asked = Vec::new();
        for tenth in 0..300 {
            let now = SECOND * tenth / 10;
            if asking.next(lack, now).is_some() {
                assert_eq!(asking.next(lack, now), None);
                asked.push(tenth);
                asking.answered(false, now);
            }
        }
        assert_eq!(asked, [0, 5, 15, 35, 75, 155, 235]);
    }

    #[test]
    fn a_token_is_renewed_at_half_of_its_life() {
        let mut asking = Asking::default();
        asking.token_in_use(SECOND * 900, SECOND);
        assert_eq!(asking.next(Missing::default(), SECOND * 450), None);
        assert_eq!(asking.next(Missing::default(), SECOND * 451), Some(Why::TokenExpiring));
        asking.token_in_use(SECOND * 900, SECOND * 451);
        asking.answered(true, SECOND * 451);
        assert_eq!(asking.next(Missing::default(), SECOND * 460), None);
    }
}
