//! A simulated world: sources that differ in speed, die, stall, return, send wrong bytes, and receive new chunks.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::schedule::{extent::len_of, rebalance::waste_bound, *};

pub(super) const TICK: Duration = Duration::from_millis(50);
pub(super) const MIB: u64 = 1 << 20;
const MAX_DURATION: Duration = Duration::from_secs(4 * 3600);

#[derive(Debug, Clone)]
pub(super) struct Peer {
    pub(super) tier: u8,
    pub(super) runs: ChunkSet,
    /// Bytes per second of all its requests together.
    pub(super) rate: u64,
    /// Time from a request to the first bytes.
    pub(super) latency: Duration,
    pub(super) trouble: Option<Trouble>,
}

/// A misbehaviour, from and until a time in milliseconds.
#[derive(Debug, Clone)]
pub(super) struct Trouble {
    period: Range<u64>,
    kind: TroubleKind,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum TroubleKind {
    Dead,
    Stalled,
    Busy,
    WrongBytes,
    Crawling,
}

pub(super) struct World {
    pub(super) peers: Vec<Peer>,
    pub(super) schedule: Schedule,
    layout: ChunkLayout,
    pub(super) in_flight: BTreeMap<RequestId, Transfer>,
    /// Per chunk, how often it was verified.
    pub(super) times_verified: Vec<u32>,
    pub(super) now: Duration,
    /// Per peer, the bytes in chunks that were verified.
    pub(super) given: Vec<u64>,
    /// Per peer, the bytes that it sent.
    pub(super) sent: Vec<u64>,
    /// Per peer, the start of each request.
    pub(super) asked: Vec<Vec<Duration>>,
}

pub(super) struct Transfer {
    source: SourceId,
    started: Duration,
    run: Range<u32>,
    /// Bytes of the current chunk.
    partial: u64,
    /// Bytes of the whole request.
    received: u64,
    is_abandoned: bool,
}

impl World {
    pub(super) fn new(size: u64, peers: Vec<Peer>, max_requests: usize) -> Self {
        let layout = ChunkLayout::of(size).unwrap();
        let mut schedule = Schedule::new(layout, ChunkSet::new(), max_requests);
        schedule.add_digests(&layout.all());
        for peer in &peers {
            schedule.add_source(peer.tier, peer.runs.clone());
        }
        let count = usize::try_from(layout.count()).unwrap();
        Self {
            given: vec![0; peers.len()],
            sent: vec![0; peers.len()],
            asked: vec![Vec::new(); peers.len()],
            peers,
            schedule,
            layout,
            in_flight: BTreeMap::new(),
            times_verified: vec![0; count],
            now: Duration::ZERO,
        }
    }

    fn trouble(&self, source: SourceId) -> Option<TroubleKind> {
        let trouble = self.peers[source.index()].trouble.as_ref()?;
        let now = u64::try_from(self.now.as_millis()).unwrap();
        trouble.period.contains(&now).then_some(trouble.kind)
    }

    /// Runs until all is done. Returns false when that takes too long.
    pub(super) fn run(&mut self) -> bool {
        while !self.schedule.is_done() && self.now < MAX_DURATION {
            self.step();
        }
        self.schedule.is_done()
    }

    /// Lets one tick pass.
    pub(super) fn step(&mut self) {
        self.act();
        self.check();
        self.now += TICK;
        for source in (0..self.peers.len()).map(SourceId::new) {
            self.deliver(source);
        }
    }

    /// Executes the actions of the schedule, and checks that each keeps the invariant.
    pub(super) fn act(&mut self) {
        for _ in 0..10_000 {
            match self.schedule.next_action(self.now) {
                None => return,
                Some(Action::Fetch { request, source, run }) => self.fetch(request, source, run),
                Some(Action::Truncate { request, end }) => {
                    let transfer = self.in_flight.get_mut(&request).unwrap();
                    // The chunk in flight stays with the request.
                    transfer.run.end = end.max(transfer.run.start + 1).min(transfer.run.end);
                    self.schedule.truncated(request, transfer.run.end);
                }
                Some(Action::Abandon { request }) => self.in_flight.get_mut(&request).unwrap().is_abandoned = true,
            }
        }
        panic!("the schedule never comes to rest");
    }

    fn fetch(&mut self, request: RequestId, source: SourceId, run: Range<u32>) {
        let holds = !run.is_empty() && self.peers[source.index()].runs.covers(run.clone());
        assert!(holds, "a source was asked for chunks that it does not hold");
        for chunk in run.clone() {
            assert_eq!(self.times_verified[usize::try_from(chunk).unwrap()], 0, "a verified chunk was requested");
            assert!(!self.in_flight.values().any(|other| other.run.contains(&chunk)), "two requests hold {chunk}");
        }
        self.asked[source.index()].push(self.now);
        self.in_flight
            .insert(request, Transfer { source, started: self.now, run, partial: 0, received: 0, is_abandoned: false });
        let at_source = self.in_flight.values().filter(|other| other.source == source).count();
        let limit = self.schedule.max_requests.max(self.schedule.max_requests_fast);
        assert!(at_source <= limit, "too many requests at one source");
    }

    fn check(&self) {
        let schedule = &self.schedule;
        let held: u32 = schedule.requests.values().map(|request| request.run.end - request.run.start).sum();
        let total = schedule.unknown.len() + schedule.waiting.len() + schedule.verified.len() + held;
        assert_eq!(total, self.layout.count(), "every chunk is in one state");
        let wasted = schedule.waste.by_choice + schedule.waste.reserved;
        assert!(wasted <= waste_bound(self.layout), "{:?}", schedule.waste);
    }

    pub(super) fn deliver(&mut self, source: SourceId) {
        let trouble = self.trouble(source);
        let its_requests: Vec<RequestId> =
            self.in_flight.iter().filter(|(_, transfer)| transfer.source == source).map(|(id, _)| *id).collect();
        let rate = if trouble == Some(TroubleKind::Crawling) { 100 } else { self.peers[source.index()].rate };
        let latency = self.peers[source.index()].latency;
        let share = rate / 20 / u64::try_from(its_requests.len().max(1)).unwrap();
        for request in its_requests {
            let failed = |fault| Some(RequestOutcome::Failed(fault));
            let outcome = match trouble {
                _ if self.in_flight[&request].is_abandoned => Some(RequestOutcome::Abandoned),
                Some(TroubleKind::Dead) => failed(SourceFault::Unreachable),
                Some(TroubleKind::Busy) => failed(SourceFault::Busy(Some(Duration::from_secs(1)))),
                Some(TroubleKind::WrongBytes) => failed(SourceFault::WrongBytes),
                Some(TroubleKind::Stalled) => continue,
                _ if self.now < self.in_flight[&request].started + latency => continue,
                Some(TroubleKind::Crawling) | None => None,
            };
            match outcome {
                Some(outcome) => self.end(request, outcome),
                None => self.receive(request, share.max(1)),
            }
        }
    }

    fn receive(&mut self, request: RequestId, bytes: u64) {
        let transfer = self.in_flight.get_mut(&request).unwrap();
        if transfer.received == 0 {
            self.schedule.answered(request, self.now);
        }
        self.sent[transfer.source.index()] += bytes;
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
            self.times_verified[usize::try_from(chunk).unwrap()] += 1;
            self.given[transfer.source.index()] += len;
            self.schedule.verified(request, chunk, self.now);
        }
        if transfer.run.is_empty() {
            transfer.received -= transfer.partial;
            self.end(request, RequestOutcome::Finished);
        } else {
            self.schedule.received(request, transfer.received, self.now);
        }
    }

    fn end(&mut self, request: RequestId, outcome: RequestOutcome) {
        let transfer = self.in_flight.remove(&request).unwrap();
        self.schedule.ended(request, outcome, transfer.received, self.now);
    }
}

/// Generates a peer of any tier, with any run of `chunks`, of any rate, and perhaps in trouble for a time.
pub(super) fn any_peer(chunks: u32) -> impl Strategy<Value = Peer> {
    let kind = prop_oneof![
        Just(TroubleKind::Dead),
        Just(TroubleKind::Stalled),
        Just(TroubleKind::Busy),
        Just(TroubleKind::WrongBytes),
        Just(TroubleKind::Crawling)
    ];
    let trouble = (0_u64..5_000, 1_u64..40_000, kind);
    (0_u8..3, 0..=chunks, 0..=chunks, 14_u32..30, 0_u64..1500, proptest::option::of(trouble)).prop_map(
        |(tier, a, b, rate, latency, trouble)| Peer {
            tier,
            runs: ChunkSet::from(a.min(b)..a.max(b)),
            rate: 1 << rate,
            latency: Duration::from_millis(latency),
            trouble: trouble.map(|(from, len, kind)| Trouble { period: from..from + len, kind }),
        },
    )
}

/// Returns a peer of the nearest tier that holds everything and is in trouble for a time in seconds.
pub(super) fn troubled(rate: u64, layout: ChunkLayout, seconds: Range<u64>, kind: TroubleKind) -> Peer {
    let period = seconds.start * 1000..seconds.end * 1000;
    Peer { trouble: Some(Trouble { period, kind }), ..honest(rate, layout) }
}

/// Returns a peer of the nearest tier that holds everything and is never in trouble.
pub(super) fn honest(rate: u64, layout: ChunkLayout) -> Peer {
    Peer { tier: 0, runs: layout.all(), rate, latency: Duration::ZERO, trouble: None }
}
