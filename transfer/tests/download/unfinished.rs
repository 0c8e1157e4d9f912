//! Servers that send almost a whole chunk of wrong bytes, so that another server's last byte completes it.

use std::time::{Duration, Instant};

use ddm_transfer::download::{DownloadError, Outcome};
use testkit::rogue::Behaviour;

use crate::world::{MIB, World};

const LINE_RATE: u64 = 1 << 30;
/// Requests in flight at one server.
const REQUESTS: u64 = 4;

fn unfinished(gives_rest: bool, rate: u64) -> Behaviour {
    Behaviour::Unfinished { chunk: MIB, gives_rest, rate }
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_never_finish_a_chunk_end_the_download_in_time_and_after_few_bytes() {
    for gives_rest in [true, false] {
        let mut world = World::new(64 * MIB, 3).await;
        world.rogues.iter().for_each(|rogue| rogue.set(unfinished(gives_rest, LINE_RATE)));
        world.settings.wait = Duration::from_secs(3);
        let started = Instant::now();
        let error = world.download().await.unwrap_err();
        let DownloadError::NoSources { reasons, .. } = &error else { panic!("{error}") };
        assert!(!reasons.contains("none of the missing"), "{reasons}");
        assert!(started.elapsed() < Duration::from_secs(12), "{:?} at {gives_rest}", started.elapsed());
        for rogue in &world.rogues {
            let most = (2 * REQUESTS + 2) * MIB;
            assert!(rogue.sent() <= most, "{} bytes of one server at {gives_rest}: {reasons}", rogue.sent());
        }
        world.check_unfinished();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_honest_server_among_such_ones_is_enough_and_they_are_dropped() {
    for (gives_rest, rate) in [(true, LINE_RATE), (false, LINE_RATE), (true, 2 * MIB)] {
        let world = World::new(64 * MIB, 4).await;
        world.rogues[..3].iter().for_each(|rogue| rogue.set(unfinished(gives_rest, rate)));
        world.rogues[3].set(Behaviour::Throttle { rate: 16 * MIB });
        let report = world.download().await.unwrap();
        world.check(&report);
        assert!(report.elapsed < Duration::from_secs(12), "{report:?}");
        assert!(report.wasted <= 3 * (2 * REQUESTS + 2) * MIB, "{report:?}");
        assert_eq!((report.sources[3].bytes, &report.sources[3].outcome), (64 * MIB, &Outcome::Fine), "{report:?}");
        for (source, rogue) in report.sources.iter().zip(&world.rogues[..3]) {
            let is_dropped = matches!(source.outcome, Outcome::Dropped { .. });
            assert!(is_dropped || matches!(source.outcome, Outcome::Failing { .. }), "{report:?}");
            assert!(!is_dropped || !rogue.reported().is_empty(), "it is not told of its wrong bytes: {report:?}");
        }
        assert!(report.sources.iter().any(|source| matches!(source.outcome, Outcome::Dropped { .. })), "{report:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_honest_server_among_such_ones_is_waited_for_longer_than_the_wait() {
    let mut world = World::new(2 * MIB, 3).await;
    world.rogues[..2].iter().for_each(|rogue| rogue.set(unfinished(true, LINE_RATE)));
    world.rogues[2].set(Behaviour::Throttle { rate: MIB / 4 });
    world.settings.wait = Duration::from_secs(2);
    let report = world.download().await.unwrap();
    world.check(&report);
    assert!(report.elapsed > Duration::from_secs(4), "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_trickle_are_named_so_and_a_silent_one_is_not_fine() {
    let mut world = World::new(4 * MIB, 2).await;
    world.rogues.iter().for_each(|rogue| rogue.set(Behaviour::Throttle { rate: 200 }));
    world.settings.wait = Duration::from_secs(3);
    let started = Instant::now();
    let error = world.download().await.unwrap_err().to_string();
    assert!(started.elapsed() < Duration::from_secs(6), "{:?}", started.elapsed());
    assert!(error.contains("rogue-0: it sends too slowly") && !error.contains("holds none"), "{error}");

    let world = World::new(8 * MIB, 2).await;
    world.rogues[0].set(Behaviour::Silent);
    world.rogues[1].set(Behaviour::Throttle { rate: 16 * MIB });
    let report = world.download().await.unwrap();
    world.check(&report);
    assert!(report.sources[0].requests > 0, "{report:?}");
    assert!(
        matches!(&report.sources[0].outcome, Outcome::Failing { reason } if reason.contains("nothing")),
        "{report:?}"
    );
}
