//! A fast server behind a network that is silent for some seconds.

use std::time::Duration;

use ddm_transfer::download::Outcome;
use testkit::{
    proxy::{Direction, Proxy},
    rogue::Behaviour,
};

use crate::world::{MIB, World};

/// Bytes per second: 100 and 8 Mbit/s.
const FAST: u32 = 12_500_000;
const SLOW: u64 = 1_000_000;
const SIZE: u64 = 56 * MIB;
const PAUSE_DURATION: Duration = Duration::from_secs(4);

/// Downloads from one fast and two slow servers, and lets `set` begin and end a pause of the fast one. Returns the time that it
/// took and the connections during the pause.
async fn download(set: impl Fn(&Proxy, bool)) -> (Duration, u64) {
    let world = World::new(SIZE, 3).await;
    world.rogues[1..].iter().for_each(|rogue| rogue.set(Behaviour::Throttle { rate: SLOW }));
    let proxy = Proxy::start().await.unwrap();
    proxy.forward_to(world.rogues[0].address());
    proxy.limit(Some(FAST));
    let mut sources = world.sources();
    sources[0].location.url.set_port(Some(proxy.address().port())).unwrap();
    let pause = async {
        world.chunks_done(12).await;
        set(&proxy, true);
        let before = proxy.accepted();
        tokio::time::sleep(PAUSE_DURATION).await;
        let probes = proxy.accepted() - before;
        set(&proxy, false);
        probes
    };
    let (report, probes) = tokio::join!(world.download_from(sources), pause);
    let report = report.unwrap();
    world.check(&report);
    assert_eq!(report.sources[0].outcome, Outcome::Fine, "{report:?}");
    (report.elapsed, probes)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fast_server_that_was_silent_for_four_seconds_is_used_again_at_once() {
    let (without, _) = download(|_, _| ()).await;
    let silent = download(|proxy, is_silent| {
        for direction in [Direction::Up, Direction::Down] {
            proxy.shape(direction, |line| line.hole = is_silent.then_some(0));
        }
    });
    for (name, (took, probes)) in [("silent", silent.await), ("cut", download(Proxy::cut).await)] {
        println!("{name}: {took:?}, {without:?} without the pause, {probes} probes");
        assert!(
            took <= without + PAUSE_DURATION + Duration::from_secs(2),
            "{name}: {took:?}, {without:?} without the pause"
        );
        // Each on a connection of its own. Silence is noticed after two seconds.
        assert!((1..=8).contains(&probes), "{name}: {probes} probes in {PAUSE_DURATION:?}");
    }
}
