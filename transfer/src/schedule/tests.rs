//! Seeded random worlds: sources that differ in speed, die, stall, return, lie, and learn new chunks.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{choose::waste_bound, *};

const TICK: Duration = Duration::from_millis(50);
const MIB: u64 = 1 << 20;

#[derive(Debug, Clone)]
struct Peer {
    tier: u8,
    runs: Runs,
    /// Bytes per second of all its requests together.
    rate: u64,
    /// From, until and how it misbehaves.
    trouble: Option<(u64, u64, Trouble)>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Trouble {
    Dead,
    Stalled,
    Busy,
    Liar,
    Crawling,
}

struct World {
    peers: Vec<Peer>,
    schedule: Schedule,
    layout: Layout,
    running: BTreeMap<RequestId, Transfer>,
    /// Per chunk, how often it was verified.
    verified: Vec<u32>,
    now: Duration,
    given: Vec<u64>,
}

struct Transfer {
    peer: usize,
    run: Range<u32>,
    /// Bytes of the current chunk, and of the whole request.
    partial: u64,
    received: u64,
    abandoned: bool,
}

impl World {
    fn new(size: u64, peers: Vec<Peer>, connections: usize) -> Self {
        let layout = Layout::of(size).unwrap();
        let mut schedule = Schedule::new(layout, Runs::new(), connections);
        schedule.add_digests(&layout.all());
        for peer in &peers {
            schedule.add_source(peer.tier, peer.runs.clone());
        }
        let count = usize::try_from(layout.count()).unwrap();
        let given = vec![0; peers.len()];
        Self { peers, schedule, layout, running: BTreeMap::new(), verified: vec![0; count], now: Duration::ZERO, given }
    }

    fn trouble(&self, peer: usize) -> Option<Trouble> {
        let (from, until, trouble) = self.peers[peer].trouble?;
        let now = u64::try_from(self.now.as_millis()).unwrap();
        (from..until).contains(&now).then_some(trouble)
    }

    /// Runs until all is done; false when it took too long.
    fn run(&mut self) -> bool {
        while !self.schedule.is_done() && self.now < Duration::from_secs(4 * 3600) {
            self.act();
            self.check();
            self.now += TICK;
            for peer in 0..self.peers.len() {
                self.deliver(peer);
            }
        }
        self.schedule.is_done()
    }

    fn act(&mut self) {
        for _ in 0..10_000 {
            match self.schedule.step(self.now) {
                None => return,
                Some(Action::Fetch { request, source, run }) => {
                    assert!(
                        !run.is_empty() && self.peers[source].runs.covers(run.clone()),
                        "asked for what is not there"
                    );
                    for chunk in run.clone() {
                        assert_eq!(self.verified[usize::try_from(chunk).unwrap()], 0, "a verified chunk was asked for");
                        assert!(!self.running.values().any(|other| other.run.contains(&chunk)), "two hold {chunk}");
                    }
                    let transfer = Transfer { peer: source, run, partial: 0, received: 0, abandoned: false };
                    self.running.insert(request, transfer);
                    let at_peer = self.running.values().filter(|other| other.peer == source).count();
                    let most = self.schedule.connections.max(self.schedule.fast_connections);
                    assert!(at_peer <= most, "too many requests at one source");
                }
                Some(Action::Cut { request, end }) => {
                    let transfer = self.running.get_mut(&request).unwrap();
                    // The chunk in flight cannot be cut off.
                    transfer.run.end = end.max(transfer.run.start + 1).min(transfer.run.end);
                    self.schedule.was_cut(request, transfer.run.end);
                }
                Some(Action::Abandon { request }) => self.running.get_mut(&request).unwrap().abandoned = true,
            }
        }
        panic!("the schedule never comes to rest");
    }

    fn check(&self) {
        let held: u32 = self.schedule.requests.values().map(|held| held.run.end - held.run.start).sum();
        let schedule = &self.schedule;
        let total = schedule.unknown.len() + schedule.waiting.len() + schedule.verified.len() + held;
        assert_eq!(total, self.layout.count(), "every chunk is in one state");
        assert!(schedule.waste.chosen + schedule.waste.reserved <= waste_bound(self.layout), "{:?}", schedule.waste);
    }

    fn deliver(&mut self, peer: usize) {
        let trouble = self.trouble(peer);
        let mine: Vec<RequestId> =
            self.running.iter().filter(|(_, transfer)| transfer.peer == peer).map(|(id, _)| *id).collect();
        let rate = if trouble == Some(Trouble::Crawling) { 100 } else { self.peers[peer].rate };
        let share = rate / 20 / u64::try_from(mine.len().max(1)).unwrap();
        for request in mine {
            let transfer = &self.running[&request];
            let fault = match trouble {
                _ if transfer.abandoned => Some(End::Abandoned),
                Some(Trouble::Dead) => Some(End::Failed(Fault::Broken)),
                Some(Trouble::Busy) => Some(End::Failed(Fault::Busy(Some(Duration::from_secs(1))))),
                Some(Trouble::Liar) => Some(End::Failed(Fault::WrongBytes)),
                Some(Trouble::Stalled) => continue,
                Some(Trouble::Crawling) | None => None,
            };
            match fault {
                Some(end) => self.end(request, end),
                None => self.receive(request, share.max(1)),
            }
        }
    }

    fn receive(&mut self, request: RequestId, bytes: u64) {
        self.schedule.answered(request, self.now);
        let transfer = self.running.get_mut(&request).unwrap();
        transfer.partial += bytes;
        transfer.received += bytes;
        while !transfer.run.is_empty() {
            let len = len_of(self.layout, transfer.run.start..transfer.run.start + 1);
            if transfer.partial < len {
                break;
            }
            transfer.partial -= len;
            let chunk = transfer.run.start;
            transfer.run.start += 1;
            self.verified[usize::try_from(chunk).unwrap()] += 1;
            self.given[transfer.peer] += len;
            self.schedule.verified(request, chunk, self.now);
        }
        if transfer.run.is_empty() {
            transfer.received -= transfer.partial;
            self.end(request, End::Finished);
        } else {
            self.schedule.received(request, transfer.received, self.now);
        }
    }

    fn end(&mut self, request: RequestId, end: End) {
        let transfer = self.running.remove(&request).unwrap();
        self.schedule.ended(request, end, transfer.received, self.now);
    }
}

fn peer(chunks: u32) -> impl Strategy<Value = Peer> {
    let trouble = prop_oneof![
        Just(Trouble::Dead),
        Just(Trouble::Stalled),
        Just(Trouble::Busy),
        Just(Trouble::Liar),
        Just(Trouble::Crawling)
    ];
    let spell = (0_u64..5_000, 1_u64..40_000, trouble);
    (0_u8..3, 0..=chunks, 0..=chunks, 14_u32..30, proptest::option::of(spell)).prop_map(|(tier, a, b, rate, spell)| {
        Peer {
            tier,
            runs: Runs::from(a.min(b)..a.max(b)),
            rate: 1 << rate,
            trouble: spell.map(|(from, len, trouble)| (from, from + len, trouble)),
        }
    })
}

fn honest(rate: u64, layout: Layout) -> Peer {
    Peer { tier: 0, runs: layout.all(), rate, trouble: None }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// The checks of the invariant are in `act` and `check`.
    #[test]
    fn in_any_world_with_one_honest_source_every_chunk_is_verified_exactly_once(
        size in 0_u64..200 * MIB,
        connections in 1_usize..5,
        peers in proptest::collection::vec(peer(200), 0..5),
        tier in 0_u8..3,
        rate in 18_u32..28,
    ) {
        let layout = Layout::of(size).unwrap();
        let mut peers = peers;
        for peer in &mut peers {
            peer.runs = intersection(&peer.runs, &layout.all());
        }
        peers.push(Peer { tier, ..honest(1 << rate, layout) });
        let mut world = World::new(size, peers, connections);
        prop_assert!(world.run(), "not done after four hours: {:?}", world.schedule);
        prop_assert!(world.verified.iter().all(|times| *times == 1));
    }

    #[test]
    fn a_farther_source_is_left_alone_while_a_nearer_one_lives(size in MIB..100 * MIB, near in 20_u32..28, far in 20_u32..30) {
        let layout = Layout::of(size).unwrap();
        let peers = || vec![honest(1 << near, layout), Peer { tier: 1, ..honest(1 << far, layout) }];
        let mut world = World::new(size, peers(), 4);
        world.schedule.keeps_near = true;
        prop_assert!(world.run());
        prop_assert_eq!(world.given[1], 0);
        // Where it may help it is tried, and left alone again when it gives little more than the near one.
        let mut world = World::new(size, peers(), 4);
        prop_assert!(world.run());
        let tries = world.now.as_secs() / 15 + 1;
        prop_assert!(far > near + 1 || world.given[1] <= tries * layout.chunk_size(), "{:?}", world.given);
    }

    #[test]
    fn a_slow_source_costs_at_most_half_as_much_time_again(size in 50 * MIB..400 * MIB, slow in 7_u32..20) {
        let layout = Layout::of(size).unwrap();
        let fast = || honest(20 * MIB, layout);
        let mut without = World::new(size, vec![fast(), fast()], 4);
        let mut with = World::new(size, vec![honest(1 << slow, layout), fast(), fast()], 4);
        prop_assert!(without.run() && with.run());
        prop_assert!(with.now <= without.now * 3 / 2 + TICK * 4, "{:?} against {:?}", with.now, without.now);
    }
}

#[test]
fn a_far_source_helps_a_near_one_that_cannot_keep_up() {
    let layout = Layout::of(200 * MIB).unwrap();
    let peers = vec![honest(MIB, layout), Peer { tier: 1, ..honest(20 * MIB, layout) }];
    let mut world = World::new(200 * MIB, peers, 4);
    assert!(world.run());
    assert!(world.now < Duration::from_secs(15), "{:?}, not the 200 s of the near one alone", world.now);
}

#[test]
fn the_fast_source_gives_more_and_all_end_together() {
    let layout = Layout::of(300 * MIB).unwrap();
    let mut world = World::new(300 * MIB, vec![honest(30 * MIB, layout), honest(10 * MIB, layout)], 4);
    assert!(world.run());
    // 40 MiB/s together: an equal split would need 15 s.
    assert!(world.now < Duration::from_millis(8_500), "{:?}", world.now);
    assert!(world.given[0] > 2 * world.given[1], "{:?}", world.given);
}

#[test]
fn a_source_is_asked_for_more_at_once_while_each_request_gets_a_fair_rate() {
    for (rate, most) in [(100 << 10, 4), (1 << 20, 4), (2 << 20, 8), (12 << 20, 16)] {
        let size = 40 * rate;
        let mut world = World::new(size, vec![honest(rate, Layout::of(size).unwrap())], 4);
        world.schedule.fast_connections = 16;
        let mut seen = 0;
        while !world.schedule.is_done() {
            assert!(world.now < Duration::from_secs(600), "{rate}");
            world.act();
            seen = seen.max(world.running.len());
            world.now += TICK;
            world.deliver(0);
        }
        // A rate is measured, and a little beside the true one.
        assert!(seen >= 4 && seen.abs_diff(most) <= 1, "{seen} at {rate}");
    }
}

#[test]
fn chunks_learnt_on_the_way_are_fetched_and_missing_ones_are_named() {
    let layout = Layout::of(4 * MIB).unwrap();
    let mut world = World::new(4 * MIB, vec![honest(MIB, layout)], 2);
    world.schedule = Schedule::new(layout, Runs::from(0..1), 2);
    let source = world.schedule.add_source(0, Runs::from(0..3));
    assert_eq!(world.schedule.step(Duration::ZERO), None);
    assert_eq!(world.schedule.missing(), Missing { digests: true, ..Missing::default() });
    world.schedule.add_digests(&Runs::from(0..4));
    let Some(Action::Fetch { run, .. }) = world.schedule.step(Duration::ZERO) else { panic!("nothing asked") };
    assert_eq!(run, 1..2);
    assert_eq!(world.schedule.missing(), Missing { sources: true, ..Missing::default() });
    world.schedule.set_source(source, 0, layout.all());
    assert_eq!(world.schedule.missing(), Missing::default());
}

#[test]
fn without_any_source_it_is_hopeless_after_the_wait_and_not_before() {
    let layout = Layout::of(MIB).unwrap();
    let schedule = Schedule::new(layout, Runs::new(), 4);
    let wait = Duration::from_secs(60);
    assert!(!schedule.is_hopeless(wait, Duration::from_secs(59)));
    assert!(schedule.is_hopeless(wait, wait));
    assert!(!Schedule::new(layout, layout.all(), 4).is_hopeless(wait, wait));
}

/// Whether a download is given up within 20 minutes whose only source gives `bytes` each second, by requests that fail every
/// eight seconds and are followed by a rest of two; and after how many seconds.
fn given_up_with(bytes: u64, wait: Duration) -> Option<u64> {
    let second = Duration::from_secs(1);
    let layout = Layout::of(MIB).unwrap();
    let mut schedule = Schedule::new(layout, Runs::new(), 4);
    schedule.add_digests(&layout.all());
    schedule.add_source(0, layout.all());
    let (mut request, mut received, mut kept) = (None, 0, 0);
    (0..1200).find(|seconds| {
        let now = second * u32::try_from(*seconds).unwrap();
        if let Some(running) = request.filter(|_| seconds % 10 == 8) {
            (request, kept) = (None, kept + received);
            schedule.keeps(running, |_| kept);
            schedule.ended(running, End::Failed(Fault::Broken), received, now);
        }
        while let Some(action) = schedule.step(now) {
            if let Action::Fetch { request: new, .. } = action {
                (request, received) = (Some(new), 0);
                schedule.continues(new, kept);
                schedule.answered(new, now);
            }
        }
        if let Some(running) = request {
            received += bytes;
            schedule.received(running, received, now);
            if kept + received >= MIB {
                schedule.verified(running, 0, now);
                schedule.ended(running, End::Finished, received, now);
                request = None;
            }
        }
        schedule.is_hopeless(wait, now)
    })
}

#[test]
fn a_chunk_that_comes_in_pieces_on_a_bad_line_is_waited_for_unless_they_are_next_to_nothing() {
    let wait = Duration::from_secs(60);
    assert_eq!(given_up_with(10_000, wait), None, "it takes 130 s");
    assert_eq!(given_up_with(2_000, wait), None);
    assert_eq!(given_up_with(100, wait), Some(60));
    assert_eq!(given_up_with(0, wait), Some(60));
}
