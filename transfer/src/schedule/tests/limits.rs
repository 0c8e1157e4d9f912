//! A limit of the user that feeds few requests.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn limited(sources: usize) -> Schedule {
    let layout = ChunkLayout::of(64 << 20).unwrap();
    let mut schedule = Schedule::new(layout, ChunkSet::new(), 4).with_limit(64 << 10);
    schedule.add_digests(&layout.all());
    for _ in 0..sources {
        schedule.add_source(0, layout.all());
    }
    schedule
}

fn fetched(action: Option<Action>) -> RequestId {
    match action {
        Some(Action::Fetch { request, .. }) => request,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_limit_bounds_the_requests_in_flight_unless_they_leave_a_part_of_it() {
    let mut schedule = limited(3);
    let request = fetched(schedule.next_action(Duration::ZERO));
    assert_eq!(schedule.next_action(Duration::ZERO), None, "one request is all that the limit can feed");
    schedule.answered(request, Duration::ZERO);
    for tick in 1..100 {
        let now = SECOND / 20 * tick;
        schedule.received(request, u64::from(tick) * 3000, now);
        schedule.limited(request, now);
        assert_eq!(schedule.next_action(now), None, "{now:?}");
    }
    let now = SECOND * 7;
    schedule.received(request, 310_000, now);
    fetched(schedule.next_action(now));
    assert_eq!(schedule.next_action(now), None, "one more at a time");
}

#[test]
fn a_request_that_waits_for_the_limit_is_not_silent_and_a_silent_one_makes_room() {
    let mut schedule = limited(2);
    let request = fetched(schedule.next_action(Duration::ZERO));
    schedule.answered(request, Duration::ZERO);
    schedule.arrived(request, 300_000, Duration::ZERO);
    let mut now = Duration::ZERO;
    while now < SECOND * 30 {
        now += SECOND / 20;
        schedule.limited(request, now);
        assert_eq!(schedule.next_action(now), None, "{now:?}");
        assert!(!schedule.is_hopeless(SECOND * 10, now));
    }
    let actions: Vec<_> = std::iter::from_fn(|| schedule.next_action(now + SECOND * 3)).collect();
    assert!(actions.contains(&Action::Abandon { request }), "{actions:?}");
}
