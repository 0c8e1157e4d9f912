//! The start of scheduled jobs whose origin cannot be probed, tried in scenarios.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use wire::{
    JobId,
    job::{JobReason, JobState},
};

use super::*;
use crate::jobs::model::start_retry::FIRST_PAUSE;

fn scheduled() -> (Coordinator, JobId, Moment) {
    let now = Moment { at: Instant::now(), wall: Timestamp::UNIX_EPOCH };
    let mut coordinator = Coordinator::new(limits());
    let id = coordinator.create(request(ME, new_job(false)), None, now);
    (coordinator, id, now)
}

fn pass(now: &mut Moment, time: Duration) {
    now.at += time;
    now.wall += SignedDuration::try_from(time).unwrap();
}

#[test]
fn an_unreachable_origin_is_tried_with_growing_pauses_for_an_hour_and_no_longer() {
    let (mut coordinator, id, mut now) = scheduled();
    let begun = now.wall;
    let mut tried = Vec::new();
    while coordinator.job(id).unwrap().state() == JobState::Scheduled {
        coordinator.tick(&LiveServers::new(), now);
        if coordinator.job(id).unwrap().is_probing() {
            tried.push(now.wall.duration_since(begun).as_secs());
            coordinator.note_probe(id, ProbeOutcome::failed(JobReason::Unreachable), 7, now);
        }
        pass(&mut now, Duration::from_secs(1));
        assert!(now.wall.duration_since(begun) < SignedDuration::from_hours(2), "it ends: {tried:?}");
    }
    assert_eq!(tried[..8], [0, 5, 15, 35, 75, 155, 315, 615]);
    assert_eq!(tried.last(), Some(&3600), "{tried:?}");
    assert_eq!(coordinator.job(id).unwrap().record().reason, Some(JobReason::Unreachable));
}

#[test]
fn a_final_answer_of_an_origin_ends_the_job_at_once_also_after_other_attempts() {
    for before in [0, 2] {
        for reason in
            [JobReason::Refused, JobReason::NotPublic, JobReason::NotSecure, JobReason::Garbled, JobReason::TooLarge]
        {
            let (mut coordinator, id, mut now) = scheduled();
            for _ in 0..before {
                coordinator.note_probe(id, ProbeOutcome::failed(JobReason::Busy), 7, now);
                assert_eq!(coordinator.job(id).unwrap().state(), JobState::Scheduled);
                pass(&mut now, Duration::from_secs(60));
            }
            coordinator.note_probe(id, ProbeOutcome::failed(reason), 7, now);
            assert_eq!(
                (coordinator.job(id).unwrap().state(), coordinator.job(id).unwrap().record().reason),
                (JobState::Failed, Some(reason))
            );
        }
    }
}

#[test]
fn the_hour_is_counted_over_a_restart_and_a_requester_may_leave_meanwhile() {
    let (mut coordinator, id, mut now) = scheduled();
    coordinator.note_probe(id, ProbeOutcome::failed(JobReason::Unreachable), 7, now);
    let (record, saved) = coordinator.job_mut(id).unwrap().snapshot();
    let mut coordinator = Coordinator::new(limits());
    coordinator.restore(saved, record, 7, now);
    assert!(!coordinator.job(id).unwrap().is_start_due(now), "it pauses still");
    let shown = coordinator.job(id).unwrap().info(now.at, &ServerZones::new());
    assert_eq!((shown.reason, shown.next_try), (Some(JobReason::Unreachable), now.wall.checked_add(FIRST_PAUSE).ok()));
    pass(&mut now, Duration::from_secs(3700));
    coordinator.note_probe(id, ProbeOutcome::failed(JobReason::Unreachable), 7, now);
    assert_eq!(
        coordinator.job(id).unwrap().state(),
        JobState::Failed,
        "the info-server was away for longer than the retries last"
    );

    let (mut coordinator, id, now) = scheduled();
    coordinator.note_probe(id, ProbeOutcome::failed(JobReason::Unreachable), 7, now);
    coordinator.job_mut(id).unwrap().leave(ME, now);
    assert_eq!(coordinator.job(id).unwrap().state(), JobState::Stopped);
    assert_eq!(coordinator.job(id).unwrap().info(now.at, &ServerZones::new()).next_try, None);
}
