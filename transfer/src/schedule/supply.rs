//! Contested chunks: parts of several sources did not match the digest, so one source alone has to supply the chunk.
//!
//! **Invariant.** As long as a chunk is contested, each source gives bytes of it that come to nothing at most once: either
//! the source gives the whole chunk, which shows it or others to be faulty, or it loses the chunk to another source and is
//! set aside when it never finishes it. A source that is set aside receives no request before the chunk is verified.

use std::{collections::BTreeSet, time::Duration};

use wire::ChunkSet;

use super::{
    Schedule, SourceFault,
    extent::len_of,
    request::{AbandonReason, Request},
    source::SourceId,
};

/// Requests of the owner that may bring next to nothing before the chunk goes to another source.
const MAX_TRIES: u32 = 2;
/// A request that brings less than this part of the chunk brings next to nothing.
const MIN_GAIN_PER_TRY: u64 = 8;

impl Schedule {
    /// Returns true if the scheduler may request `chunk` from `source` as far as it is contested.
    pub(super) fn may_supply(&self, source: SourceId, chunk: u32) -> bool {
        let Some(contest) = self.contests.get(&chunk) else { return true };
        let is_live = |source| self.source(source).is_some_and(|source| source.health.is_live());
        let is_dropped = |source| self.source(source).is_none_or(|source| source.health.is_dropped());
        // What the owner began is lost when another source takes over. That happens once for a source that is failing, too:
        // next to a source that looks fast, an honest one looks stalled.
        let may_begin = is_live(source) || !contest.owners.contains(&source);
        let may_replace = |owner| is_dropped(owner) || !is_live(owner) && may_begin;
        let is_free = contest.owner.is_none_or(|owner| owner == source || may_replace(owner));
        is_free && !contest.set_aside.contains(&source)
    }

    /// Returns true if `thief` may steal from `request`: a contested chunk has to begin anew then.
    pub(super) fn may_take_over(&self, thief: SourceId, request: &Request) -> bool {
        let is_live = self.source(thief).is_some_and(|thief| thief.health.is_live());
        self.contests.get(&request.run.start).is_none_or(|contest| is_live && !contest.set_aside.contains(&thief))
    }

    /// Returns true if no request may continue into `chunk` from the one before it.
    pub(super) fn ends_run(&self, chunk: u32) -> bool {
        self.begun.contains_key(&chunk) || self.contests.contains_key(&chunk)
    }

    /// Returns true if a failing source left so many chunks unfinished that it is only asked to finish these. Otherwise, one that
    /// never finishes a chunk would begin one after the other until others show what its bytes are worth.
    pub(super) fn has_begun_enough(&self, source: SourceId) -> bool {
        let is_failing = self.source(source).is_some_and(|source| source.health.is_failing());
        let limit = self.max_requests.max(self.max_requests_fast);
        is_failing && self.unfinished.iter().filter(|begun| begun.source == source).count() > limit
    }

    /// Returns the chunks that `source` began and that are not verified yet.
    pub(super) fn begun_by(&self, source: SourceId) -> ChunkSet {
        let mut chunks = ChunkSet::new();
        let begun = self.unfinished.iter().filter(|begun| begun.source == source);
        begun.for_each(|begun| chunks.insert(begun.chunk..begun.chunk + 1));
        chunks
    }

    /// Makes `source` the owner of `chunk` if it is contested.
    pub(super) fn own_contested(&mut self, source: SourceId, chunk: u32) {
        let Some(contest) = self.contests.get_mut(&chunk).filter(|contest| contest.owner != Some(source)) else {
            return;
        };
        (contest.owner, contest.tries) = (Some(source), 0);
        contest.owners.insert(source);
    }

    /// Takes into account the end of a request for a chunk that is contested, or is from now on.
    pub(super) fn contested_request_ended(&mut self, request: &Request, fault: Option<SourceFault>) {
        let chunk = request.run.start;
        if request.run.is_empty() {
            return;
        }
        if fault == Some(SourceFault::WrongMixedChunk) {
            self.contests.entry(chunk).or_default().owner = None;
        }
        let min_gain = len_of(self.layout, chunk..chunk + 1) / MIN_GAIN_PER_TRY;
        let Some(contest) = self.contests.get_mut(&chunk).filter(|contest| contest.owner == Some(request.source))
        else {
            return;
        };
        match fault {
            // A request that failed for a byte or two is no reason to let go of what it brought before.
            Some(SourceFault::Broken | SourceFault::Unreachable) if request.received_bytes >= min_gain => {}
            Some(SourceFault::Broken | SourceFault::Unreachable) => contest.tries += 1,
            None if request.abandoned != Some(AbandonReason::Stolen) => {}
            None | Some(_) => contest.owner = None,
        }
        if contest.tries >= MAX_TRIES {
            (contest.owner, contest.tries) = (None, 0);
            // A source that cannot be reached has shown nothing.
            if fault == Some(SourceFault::Broken) {
                contest.set_aside.insert(request.source);
                self.update_set_aside();
            }
        }
    }

    /// Ends the contest for a chunk that was verified. The source that gave it may serve again, whatever it did elsewhere.
    pub(super) fn end_contest(&mut self, source: SourceId, chunk: u32) {
        self.contests.remove(&chunk);
        self.contests.values_mut().for_each(|contest| {
            contest.set_aside.remove(&source);
        });
        self.update_set_aside();
    }

    /// Drops a source whose bytes turned out to be wrong.
    pub fn expose(&mut self, source: SourceId, now: Duration) {
        if let Some(source) = self.source_mut(source) {
            source.health.failed(SourceFault::WrongBytes, now, now);
        }
    }

    fn update_set_aside(&mut self) {
        let all: BTreeSet<SourceId> = self.contests.values().flat_map(|contest| contest.set_aside.clone()).collect();
        for (id, source) in (0..).map(SourceId::new).zip(&mut self.sources) {
            source.health.set_aside(all.contains(&id));
        }
    }
}
