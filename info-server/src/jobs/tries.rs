//! Scheduled jobs whose origin cannot be asked when their time comes. Pure.
//!
//! What may pass is tried again, with pauses that grow, for an hour from the first try on; what an origin says for good ends the job at
//! once.

use std::time::Duration;

use wire::job::{JobState, Reason};

use super::{
    job::{Job, Moment},
    row::Trying,
};

/// The pause after the first try, doubled after each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// How long after the first try the last one may be.
const PATIENCE: Duration = Duration::from_secs(3600);

/// Whether it may be otherwise a little later.
const fn may_pass(reason: Reason) -> bool {
    matches!(reason, Reason::Unreachable | Reason::Busy)
}

impl Job {
    /// Whether the origin of a scheduled job is to be asked now.
    pub(crate) fn is_due(&self, now: Moment) -> bool {
        let paused = self.row.trying.is_some_and(|trying| now.wall < trying.next);
        self.row.start_at <= now.wall && !self.probing && !paused
    }

    /// The origin of a scheduled job could not be asked.
    pub(crate) fn try_again(&mut self, reason: Reason, now: Moment) {
        let before = self.row.trying;
        let (since, tries) = before.map_or((now.wall, 0), |trying| (trying.since, trying.tries));
        let pause = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(tries)).min(LONGEST_PAUSE);
        let (last, next) = (since.checked_add(PATIENCE), now.wall.checked_add(pause));
        match (last, next) {
            (Ok(last), Ok(next)) if may_pass(reason) && now.wall < last => {
                let next = next.min(last);
                tracing::info!(job = %self.id(), tries = tries + 1, ?reason, %next, "a scheduled job is tried again");
                let trying = Trying { since, tries: tries.saturating_add(1), next, reason };
                self.change_row(|row| row.trying = Some(trying));
            }
            _ => self.finish(JobState::Failed, reason, now),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use jiff::{SignedDuration, Timestamp};
    use wire::job::NewJob;

    use super::*;
    use crate::jobs::{askers::Who, asking::Answer, board::Board, ticks::Terms};

    const ME: Who = Who { user: 1, asker: None };

    fn scheduled() -> (Board, wire::JobId, Moment) {
        let long = Duration::from_secs(100_000);
        let now = Moment { at: Instant::now(), wall: Timestamp::UNIX_EPOCH };
        let mut board = Board::new(Terms { grace: long, memory: long, keep_for: long }, 32, 16);
        let url = "https://example.org/x.iso".parse().unwrap();
        let new = NewJob { url, sha256: None, connections: None, start_at: None, keep: false, zones: None, name: None };
        let id = board.create(new, None, (ME, 7), now);
        (board, id, now)
    }

    fn pass(now: &mut Moment, time: Duration) {
        now.at += time;
        now.wall += SignedDuration::try_from(time).unwrap();
    }

    #[test]
    fn an_unreachable_origin_is_tried_with_growing_pauses_for_an_hour_and_no_longer() {
        let (mut board, id, mut now) = scheduled();
        let begun = now.wall;
        let mut tried = Vec::new();
        while board.jobs[&id].row.state == JobState::Scheduled {
            board.tick(&std::collections::BTreeMap::new(), now);
            if board.jobs[&id].probing {
                tried.push(now.wall.duration_since(begun).as_secs());
                board.probed(id, Answer::No(Reason::Unreachable), 7, now);
            }
            pass(&mut now, Duration::from_secs(1));
            assert!(now.wall.duration_since(begun) < SignedDuration::from_hours(2), "it ends: {tried:?}");
        }
        assert_eq!(tried[..8], [0, 5, 15, 35, 75, 155, 315, 615]);
        assert_eq!(tried.last(), Some(&3600), "{tried:?}");
        assert_eq!(board.jobs[&id].row.reason, Some(Reason::Unreachable));
    }

    #[test]
    fn what_an_origin_says_for_good_ends_the_job_at_once_also_after_other_tries() {
        for before in [0, 2] {
            for reason in [Reason::Refused, Reason::NotPublic, Reason::NotSecure, Reason::Garbled, Reason::TooLarge] {
                let (mut board, id, mut now) = scheduled();
                for _ in 0..before {
                    board.probed(id, Answer::No(Reason::Busy), 7, now);
                    assert_eq!(board.jobs[&id].row.state, JobState::Scheduled);
                    pass(&mut now, Duration::from_secs(60));
                }
                board.probed(id, Answer::No(reason), 7, now);
                assert_eq!((board.jobs[&id].row.state, board.jobs[&id].row.reason), (JobState::Failed, Some(reason)));
            }
        }
    }

    #[test]
    fn the_hour_is_counted_over_a_restart_and_an_asker_may_leave_meanwhile() {
        let (mut board, id, mut now) = scheduled();
        board.probed(id, Answer::No(Reason::Unreachable), 7, now);
        let (row, saved) = board.jobs.get_mut(&id).unwrap().snapshot();
        let long = Duration::from_secs(100_000);
        let mut board = Board::new(Terms { grace: long, memory: long, keep_for: long }, 32, 16);
        board.restore(saved, row, 7, now);
        assert!(!board.jobs[&id].is_due(now), "it pauses still");
        let shown = board.jobs[&id].info(now.at, &|_| None);
        assert_eq!((shown.reason, shown.next_try), (Some(Reason::Unreachable), now.wall.checked_add(FIRST_PAUSE).ok()));
        pass(&mut now, Duration::from_secs(3700));
        board.probed(id, Answer::No(Reason::Unreachable), 7, now);
        assert_eq!(board.jobs[&id].row.state, JobState::Failed, "the info-server was away for longer than it is tried");

        let (mut board, id, now) = scheduled();
        board.probed(id, Answer::No(Reason::Unreachable), 7, now);
        board.jobs.get_mut(&id).unwrap().leave(ME, now);
        assert_eq!(board.jobs[&id].row.state, JobState::Stopped);
        assert_eq!(board.jobs[&id].info(now.at, &|_| None).next_try, None);
    }
}
