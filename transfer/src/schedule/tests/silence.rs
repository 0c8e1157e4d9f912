//! Sources that give nothing for a time and then are as fast as before.

use super::{
    world::{MIB, TICK, TroubleKind, World, honest, troubled},
    *,
};

const SECOND: Duration = Duration::from_secs(1);
/// The trouble begins at this time, in seconds.
const BEGIN: u64 = 4;
/// The time in trouble, in seconds.
const PAUSES: [u64; 9] = [1, 2, 3, 4, 6, 12, 20, 40, 60];
const KINDS: [TroubleKind; 2] = [TroubleKind::Stalled, TroubleKind::Dead];
const FAST: u64 = 12_500_000;
const SLOW: u64 = 1_000_000;

/// Lets the world run until 1.5 s after the end of a pause, while `sources` were silent, and checks that each is probed at the
/// promised rate and used again at once.
fn check_return(mut world: World, sources: &[usize], rate: u64, pause: u64) {
    let end = SECOND * u32::try_from(BEGIN + pause).unwrap();
    while world.now < end {
        world.step();
    }
    let before = world.sent.clone();
    let mut first_bytes = vec![None; sources.len()];
    let mut given = vec![0; sources.len()];
    while world.now < end + SECOND * 5 / 2 {
        world.step();
        for (at, source) in sources.iter().enumerate() {
            let sent = world.sent[*source] - before[*source];
            if sent > 0 && world.now <= *first_bytes[at].get_or_insert(world.now) + SECOND {
                given[at] = sent;
            }
        }
    }
    assert!(!world.schedule.is_done(), "the world is too small");
    for (at, source) in sources.iter().enumerate() {
        let first = first_bytes[at].unwrap_or(Duration::MAX).saturating_sub(end);
        assert!(first <= SECOND + TICK, "source {source} was used {first:?} after a pause of {pause} s");
        assert!(given[at] >= rate * 8 / 10, "{} bytes in the second after a pause of {pause} s", given[at]);
        let begin = SECOND * u32::try_from(BEGIN).unwrap();
        let probes: Vec<_> = world.asked[*source].iter().filter(|at| (begin + SECOND * 3..end).contains(at)).collect();
        assert!(u64::try_from(probes.len()).unwrap() + 3 >= pause, "{probes:?} in {pause} s");
        for pair in probes.windows(2) {
            let interval = *pair[1] - *pair[0];
            assert!((SECOND / 2..=SECOND).contains(&interval), "{interval:?} between two probes of {probes:?}");
        }
    }
    assert!(world.run() && world.times_verified.iter().all(|times| *times == 1));
}

#[test]
fn a_fast_source_that_was_silent_is_probed_every_second_and_then_as_fast_as_before() {
    for kind in KINDS {
        for pause in PAUSES {
            let size = FAST * (BEGIN + 5) + SLOW * 2 * pause;
            let layout = ChunkLayout::of(size).unwrap();
            let fast = troubled(FAST, layout, BEGIN..BEGIN + pause, kind);
            let world = World::new(size, vec![fast, honest(SLOW, layout), honest(SLOW, layout)], 4);
            check_return(world, &[0], FAST, pause);
        }
    }
}

#[test]
fn sources_that_were_silent_together_are_all_as_fast_as_before() {
    for kind in KINDS {
        for pause in PAUSES {
            let size = 3 * 5_000_000 * (BEGIN + 5);
            let layout = ChunkLayout::of(size).unwrap();
            let peer = || troubled(5_000_000, layout, BEGIN..BEGIN + pause, kind);
            check_return(World::new(size, vec![peer(), peer(), peer()], 4), &[0, 1, 2], 5_000_000, pause);
        }
    }
}

#[test]
fn a_pause_of_the_fast_source_costs_little_more_than_itself() {
    let took = |pause: u64| {
        let size = 256 * MIB;
        let layout = ChunkLayout::of(size).unwrap();
        let fast = troubled(FAST, layout, BEGIN..BEGIN + pause, TroubleKind::Stalled);
        let mut world = World::new(size, vec![fast, honest(SLOW, layout), honest(SLOW, layout)], 4);
        assert!(world.run());
        world.now
    };
    let without = took(0);
    for pause in [1, 2, 4, 6, 12, 20] {
        let cost = took(pause).saturating_sub(without);
        assert!(cost <= SECOND * u32::try_from(pause + 1).unwrap(), "{pause} s cost {cost:?} beyond {without:?}");
    }
}
