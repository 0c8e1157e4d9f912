use std::time::Duration;

use ddm_transfer::{
    progress::{Snapshot, SourceActivity},
    rate_limiter::RateLimiter,
};
use testkit::rogue::Behaviour;

use crate::world::{MIB, World};

#[tokio::test(flavor = "multi_thread")]
async fn the_fast_server_delivers_more_and_sooner_than_an_equal_split() {
    let world = World::new(48 * MIB, 2).await;
    world.rogues[0].set(Behaviour::Throttle { rate: 18 * MIB });
    world.rogues[1].set(Behaviour::Throttle { rate: 6 * MIB });
    let report = world.download().await.unwrap();
    world.check(&report);
    // An equal split ends when the slow one has sent its half: after 4 s. Together they need 2 s.
    assert!(report.elapsed < Duration::from_secs(3), "{report:?}");
    assert!(report.sources[0].bytes > 2 * report.sources[1].bytes, "{report:?}");
    assert!(report.wasted <= 2 * MIB, "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn three_equally_capped_servers_are_as_fast_as_nearly_three() {
    let rate = 8 * MIB;
    let one = World::new(24 * MIB, 1).await;
    let three = World::new(24 * MIB, 3).await;
    one.rogues.iter().chain(&three.rogues).for_each(|rogue| rogue.set(Behaviour::Throttle { rate }));
    let (alone, together) = (one.download().await.unwrap(), three.download().await.unwrap());
    three.check(&together);
    let speed_up = alone.elapsed.as_secs_f64() / together.elapsed.as_secs_f64();
    assert!(speed_up >= 2.8, "{speed_up}: {alone:?} {together:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn several_requests_run_at_several_servers_at_once() {
    let world = World::new(48 * MIB, 2).await;
    world.rogues.iter().for_each(|rogue| rogue.set(Behaviour::Throttle { rate: 24 * MIB }));
    let report = world.download().await.unwrap();
    world.check(&report);
    assert!(report.sources.iter().all(|source| source.requests > 3 && source.bytes > 16 * MIB), "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_own_zone_serves_alone_and_others_only_when_it_dies() {
    let mut world = World::new(24 * MIB, 2).await;
    world.rogues.iter().for_each(|rogue| rogue.set(Behaviour::Throttle { rate: 24 * MIB }));
    let mut sources = world.sources();
    sources[0].tier = 1;
    let near = world.rogues.pop().unwrap();
    let kill = async {
        world.chunks_done(6).await;
        let far_asked = world.rogues[0].asked().len();
        near.kill().await;
        far_asked
    };
    let (report, far_asked) = tokio::join!(world.download_from(sources), kill);
    let report = report.unwrap();
    world.check(&report);
    assert_eq!(far_asked, 0, "the far server was asked while the near one lived");
    assert!(report.sources.iter().all(|source| source.bytes >= 4 * MIB), "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_only_rises_and_lists_every_source() {
    let world = World::new(16 * MIB, 2).await;
    world.rogues.iter().for_each(|rogue| rogue.set(Behaviour::Throttle { rate: 8 * MIB }));
    let watch = async {
        let mut seen = Vec::new();
        while seen.last().is_none_or(|view: &Snapshot| view.chunks_done < 16) {
            seen.push(world.progress.snapshot());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        seen
    };
    let (report, seen) = tokio::join!(world.download(), watch);
    world.check(&report.unwrap());
    assert!(seen.windows(2).all(|pair| pair[0].bytes_done <= pair[1].bytes_done));
    let middle = seen.iter().find(|view| (6..12).contains(&view.chunks_done)).unwrap();
    assert_eq!((middle.chunks_total, middle.bytes_total), (16, 16 * MIB));
    assert!((8 * MIB..24 * MIB).contains(&middle.rate), "{middle:?}");
    assert!(middle.remaining.is_some_and(|left| left < Duration::from_secs(2)), "{middle:?}");
    assert!(middle.sources.iter().all(|source| source.state == SourceActivity::Active), "{middle:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_keeps_to_its_rate_limit() {
    let mut world = World::new(8 * MIB, 2).await;
    world.settings.rate_limiter = RateLimiter::with_total(8 * MIB);
    let report = world.download().await.unwrap();
    world.check(&report);
    assert!(report.elapsed > Duration::from_millis(800), "{report:?}");
}
