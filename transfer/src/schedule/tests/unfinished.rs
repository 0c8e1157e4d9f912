//! Sources that give wrong bytes and end before the chunk does, so that others complete it: what they cost is bounded.

use std::{collections::BTreeMap, sync::Arc};

use proptest::prelude::*;
use wire::Digest;

use super::world::{MIB, TICK};
use crate::{
    schedule::*,
    source::{ChunkVerdict, PartialChunks, ReceivingChunk},
};

/// Bytes that one byte stands for: hashing whole chunks would take most of the time.
const SCALE: u64 = 16 << 10;
const CHUNK_LEN: u64 = MIB / SCALE;
const RIGHT: u8 = b'.';
const WRONG: u8 = b'x';
const MAX_REQUESTS: usize = 4;
const MAX_USELESS_BYTES: u64 = (2 * 4 + 2) * MIB;
const MAX_WAIT: Duration = Duration::from_secs(8);

/// Bytes of a source, by their position in a chunk.
#[derive(Debug, Clone)]
struct Peer {
    rate: u64,
    /// All bytes from here on are wrong.
    wrong_from: u64,
    /// A request that begins before here ends here.
    closes_at: u64,
    /// Set if a request that begins at `closes_at` or later is served.
    gives_rest: bool,
}

fn honest(rate: u64) -> Peer {
    Peer { rate, wrong_from: CHUNK_LEN, closes_at: CHUNK_LEN, gives_rest: true }
}

fn faulty(rate: u64, gives_rest: bool) -> Peer {
    Peer { rate, wrong_from: 0, closes_at: CHUNK_LEN - 1, gives_rest }
}

struct Transfer {
    source: SourceId,
    run: Range<u32>,
    chunk: Option<ReceivingChunk>,
    /// Position in the first chunk at which the request began.
    began_at: u64,
    received: u64,
    /// Bytes that its source could have sent already.
    credit: u64,
    is_abandoned: bool,
}

struct World {
    peers: Vec<Peer>,
    schedule: Schedule,
    partial_chunks: Arc<PartialChunks>,
    in_flight: BTreeMap<RequestId, Transfer>,
    right: Digest,
    patience: Duration,
    now: Duration,
    sent: Vec<u64>,
    verified: Vec<u64>,
    faulty: Vec<SourceId>,
}

impl World {
    fn new(chunks: u64, peers: Vec<Peer>) -> Self {
        let layout = ChunkLayout::of(chunks * MIB).unwrap();
        let mut schedule = Schedule::new(layout, ChunkSet::new(), MAX_REQUESTS);
        schedule.add_digests(&layout.all());
        for _ in &peers {
            schedule.add_source(0, layout.all());
        }
        let (sent, verified) = (vec![0; peers.len()], vec![0; peers.len()]);
        Self {
            peers,
            schedule,
            partial_chunks: Arc::default(),
            in_flight: BTreeMap::new(),
            right: Digest::of(&vec![RIGHT; usize::try_from(CHUNK_LEN).unwrap()]),
            patience: MAX_WAIT,
            now: Duration::ZERO,
            sent,
            verified,
            faulty: Vec::new(),
        }
    }

    /// Runs until all is done or further waiting is of no use. Returns true if all is done.
    fn run(&mut self) -> bool {
        while !self.schedule.is_done() && !self.schedule.is_hopeless(self.patience, self.now) {
            self.act();
            self.now += TICK;
            let requests: Vec<RequestId> = self.in_flight.keys().copied().collect();
            requests.into_iter().for_each(|request| self.deliver(request));
        }
        self.schedule.is_done()
    }

    fn act(&mut self) {
        while let Some(action) = self.schedule.next_action(self.now) {
            match action {
                Action::Fetch { request, source, run } => {
                    let began_at = self.partial_chunks.bytes(run.start, source);
                    self.schedule.set_resumed_bytes(request, began_at * SCALE);
                    let chunk = Some(self.partial_chunks.resume(run.start, source));
                    let transfer =
                        Transfer { source, run, chunk, began_at, received: 0, credit: 0, is_abandoned: false };
                    self.in_flight.insert(request, transfer);
                }
                Action::Truncate { request, end } => {
                    let run = &mut self.in_flight.get_mut(&request).unwrap().run;
                    run.end = end.clamp(run.start + 1, run.end);
                    self.schedule.truncated(request, run.end);
                }
                Action::Abandon { request } => self.in_flight.get_mut(&request).unwrap().is_abandoned = true,
            }
        }
    }

    fn deliver(&mut self, request: RequestId) {
        let Some(transfer) = self.in_flight.get(&request) else { return };
        let source = transfer.source;
        if transfer.is_abandoned {
            return self.end(request, RequestOutcome::Abandoned);
        }
        if transfer.received == 0 {
            self.schedule.answered(request, self.now);
        }
        let share = u64::try_from(self.in_flight.values().filter(|other| other.source == source).count()).unwrap();
        self.in_flight.get_mut(&request).unwrap().credit += self.peers[source.index()].rate / 20 / share;
        while self.in_flight[&request].credit >= SCALE {
            self.in_flight.get_mut(&request).unwrap().credit -= SCALE;
            if let Some(outcome) = self.send_byte(request) {
                return self.end(request, outcome);
            }
        }
        self.schedule.received(request, self.in_flight[&request].received, self.now);
    }

    /// Lets the source send what stands for the next byte. Returns how that ended the request.
    fn send_byte(&mut self, request: RequestId) -> Option<RequestOutcome> {
        let transfer = self.in_flight.get_mut(&request).unwrap();
        let (source, index) = (transfer.source, transfer.run.start);
        let peer = &self.peers[source.index()];
        let at = transfer.chunk.as_ref().unwrap().bytes();
        let is_served = if transfer.began_at < peer.closes_at { at < peer.closes_at } else { peer.gives_rest };
        if !is_served {
            return Some(RequestOutcome::Failed(SourceFault::Broken));
        }
        transfer.chunk.as_mut().unwrap().wrote(&[if at >= peer.wrong_from { WRONG } else { RIGHT }]);
        transfer.received += SCALE;
        self.sent[source.index()] += SCALE;
        if at + 1 < CHUNK_LEN {
            return None;
        }
        match transfer.chunk.take().unwrap().finish(Some(&self.right)) {
            ChunkVerdict::Match { faulty } => {
                transfer.run.start += 1;
                transfer.began_at = 0;
                let next = transfer.run.start;
                transfer.chunk = (next < transfer.run.end).then(|| self.partial_chunks.begin(next, source));
                let is_finished = transfer.chunk.is_none();
                self.verified[source.index()] += MIB;
                for source in faulty {
                    self.faulty.push(source);
                    self.schedule.expose(source, self.now);
                    self.partial_chunks.forget(source);
                }
                self.schedule.verified(request, index, self.now);
                is_finished.then_some(RequestOutcome::Finished)
            }
            ChunkVerdict::Mismatch => {
                self.faulty.push(source);
                self.partial_chunks.forget(source);
                Some(RequestOutcome::Failed(SourceFault::WrongBytes))
            }
            ChunkVerdict::MixedMismatch => Some(RequestOutcome::Failed(SourceFault::WrongMixedChunk)),
        }
    }

    fn end(&mut self, request: RequestId, outcome: RequestOutcome) {
        let Transfer { source, received, chunk, .. } = self.in_flight.remove(&request).unwrap();
        drop(chunk);
        self.schedule.set_preserved_bytes(request, |chunk| self.partial_chunks.bytes(chunk, source) * SCALE);
        self.schedule.ended(request, outcome, received, self.now);
    }

    /// Checks what each faulty source cost, and that no other one is called faulty.
    fn check(&self) {
        for (at, peer) in self.peers.iter().enumerate() {
            let useless = self.sent[at].saturating_sub(self.verified[at]);
            let is_honest = peer.wrong_from == CHUNK_LEN;
            assert!(is_honest || useless <= MAX_USELESS_BYTES, "source {at}: {useless} bytes of {:?}", self.peers);
            assert!(!is_honest || !self.faulty.contains(&SourceId::new(at)), "source {at} of {:?}", self.peers);
        }
        let all = MAX_USELESS_BYTES * u64::try_from(self.peers.len()).unwrap();
        assert!(self.schedule.wasted_bytes() <= all, "{} bytes", self.schedule.wasted_bytes());
    }
}

fn any_faulty_peer() -> impl Strategy<Value = Peer> {
    (17_u32..27, 0..CHUNK_LEN, 1..=CHUNK_LEN, any::<bool>()).prop_map(|(rate, wrong_from, closes_at, gives_rest)| {
        Peer { rate: 1 << rate, wrong_from, closes_at, gives_rest }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn whatever_faulty_sources_do_an_honest_one_finishes_and_they_waste_little(
        peers in proptest::collection::vec(any_faulty_peer(), 1..5),
        chunks in 1_u64..40,
        rate in 20_u32..25,
    ) {
        let mut peers = peers;
        peers.push(honest(1 << rate));
        let mut world = World::new(chunks, peers);
        prop_assert!(world.run(), "given up at {:?}: {:?}", world.now, world.peers);
        world.check();
    }

    #[test]
    fn without_an_honest_source_the_download_is_given_up_soon_and_little_is_wasted(
        peers in proptest::collection::vec(any_faulty_peer(), 1..5),
        chunks in 1_u64..40,
    ) {
        let mut world = World::new(chunks, peers);
        prop_assert!(!world.run(), "{:?}", world.peers);
        prop_assert!(world.now <= Duration::from_secs(120), "{:?}: {:?}", world.now, world.peers);
        world.check();
    }
}

#[test]
fn sources_that_send_all_but_the_last_byte_end_a_download_after_the_wait_and_few_bytes() {
    for gives_rest in [true, false] {
        let mut world = World::new(64, (0..3).map(|_| faulty(100 * MIB, gives_rest)).collect());
        assert!(!world.run());
        assert!(world.now <= MAX_WAIT * 2, "{:?}", world.now);
        world.check();
    }
}

#[test]
fn an_honest_source_that_is_slow_is_waited_for_among_them() {
    for (chunks, faulty_sources, rate, patience) in [(3, 3, 40 << 10, 8), (2, 2, 256 << 10, 2), (9, 1, 100 << 10, 4)] {
        let mut peers: Vec<Peer> = (0..faulty_sources).map(|_| faulty(1 << 30, true)).collect();
        peers.push(honest(rate));
        let mut world = World::new(chunks, peers);
        world.patience = Duration::from_secs(patience);
        assert!(world.run(), "given up after {:?}: {:?}", world.now, world.schedule);
        assert!(world.now > world.patience * 2, "{:?}", world.now);
        world.check();
    }
}
