//! The chunks of a lease that are left, shared by the connections that fetch them. Pure.
//!
//! Invariant: a chunk is handed out once, and none at or after the end, which only comes nearer.

use std::{
    collections::VecDeque,
    ops::Range,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;
use wire::ChunkSet;

/// The chunks of one lease.
#[derive(Debug)]
pub(super) struct SpanQueue {
    connections: u32,
    state: Mutex<State>,
    /// Notified when few chunks are left: it is time to claim the next lease.
    low_watermark: Notify,
}

#[derive(Debug)]
struct State {
    /// Chunks that are not handed out yet.
    waiting: VecDeque<Range<u32>>,
    end: u32,
    /// Chunks that are not finished, handed out or not.
    left: ChunkSet,
    /// Number of chunks left at which the next lease is claimed.
    low_watermark: u32,
}

impl SpanQueue {
    /// Returns a queue of the chunks `left` of a span that ends at `end`, for this number of connections.
    pub(super) fn new(left: ChunkSet, end: u32, connections: u8) -> Self {
        let low_watermark = (left.len() / 4).max(1);
        let waiting = left.iter().collect();
        let queue = Self {
            connections: u32::from(connections.max(1)),
            state: Mutex::new(State { waiting, end, left, low_watermark }),
            low_watermark: Notify::new(),
        };
        queue.notify_if_low(&queue.state());
        queue
    }

    /// Takes the next chunks for one connection, as one request: all of them for a single connection, as no other one could
    /// fetch them meanwhile; else so few that the connections end at about the same time.
    pub(super) fn take(&self) -> Option<Range<u32>> {
        let mut state = self.state();
        let waiting: u32 = state.waiting.iter().map(|run| run.end - run.start).sum();
        let share = if self.connections == 1 { waiting } else { waiting.div_ceil(2 * self.connections) };
        let mut run = state.waiting.pop_front()?;
        if run.end - run.start > share {
            let cut = run.start + share;
            state.waiting.push_front(cut..run.end);
            run.end = cut;
        }
        Some(run)
    }

    /// Takes chunks back that a connection did not fetch, for another one.
    pub(super) fn put_back(&self, run: Range<u32>) {
        let mut state = self.state();
        let run = run.start..run.end.min(state.end);
        if run.start < run.end {
            state.waiting.push_front(run);
        }
    }

    /// Returns true if chunks wait for a connection.
    pub(super) fn has_waiting(&self) -> bool {
        !self.state().waiting.is_empty()
    }

    /// Removes a chunk that is fetched.
    pub(super) fn finish(&self, chunk: u32) {
        let mut state = self.state();
        state.left.remove(chunk..chunk.saturating_add(1));
        self.notify_if_low(&state);
    }

    /// Moves the end of the span: what follows belongs to another lease now.
    pub(super) fn truncate(&self, end: u32) {
        let mut state = self.state();
        if end >= state.end {
            return;
        }
        state.end = end;
        state.left.remove(end..u32::MAX);
        for run in &mut state.waiting {
            run.end = run.end.min(end);
        }
        state.waiting.retain(|run| run.start < run.end);
        self.notify_if_low(&state);
    }

    /// Returns the first chunk after the span.
    pub(super) fn end(&self) -> u32 {
        self.state().end
    }

    /// Waits until few chunks are left.
    pub(super) async fn low(&self) {
        self.low_watermark.notified().await;
    }

    /// Returns true if few chunks are left.
    pub(super) fn is_low(&self) -> bool {
        let state = self.state();
        state.left.len() <= state.low_watermark
    }

    fn notify_if_low(&self, state: &State) {
        if state.left.len() <= state.low_watermark {
            self.low_watermark.notify_one();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn queue(run: Range<u32>, connections: u8) -> SpanQueue {
        let end = run.end;
        SpanQueue::new(std::iter::once(run).collect(), end, connections)
    }

    #[test]
    fn one_connection_takes_everything_and_several_share() {
        assert_eq!(queue(3..9, 1).take(), Some(3..9));
        let shared = queue(0..8, 4);
        let first: Vec<_> = std::iter::repeat_with(|| shared.take().unwrap()).take(4).collect();
        assert_eq!(first, [0..1, 1..2, 2..3, 3..4]);
        assert_eq!(queue(0..64, 4).take(), Some(0..8));
    }

    #[test]
    fn chunks_that_are_put_back_are_handed_out_again_up_to_the_end() {
        let queue = queue(0..8, 2);
        assert_eq!(queue.take(), Some(0..2));
        queue.truncate(6);
        queue.put_back(0..2);
        queue.put_back(5..7);
        queue.put_back(7..8);
        let rest: Vec<u32> = std::iter::from_fn(|| queue.take()).flatten().collect();
        assert_eq!(rest, [5, 0, 1, 2, 3, 4, 5]);
        assert!(!queue.has_waiting());
    }

    proptest! {
        #[test]
        fn every_chunk_before_the_end_is_handed_out_once_and_none_after_it(
            span in 1_u32..80, connections in 1_u8..17, cuts in prop::collection::vec((0_u32..80, 0_usize..4), 0..6),
        ) {
            let queue = queue(0..span, connections);
            let (mut seen, mut end) = (Vec::new(), span);
            for (cut, takes) in cuts {
                for _ in 0..takes {
                    let Some(run) = queue.take() else { break };
                    prop_assert!(run.start < run.end && run.end <= end, "{run:?} {end}");
                    seen.extend(run);
                }
                queue.truncate(cut);
                end = end.min(cut);
                prop_assert_eq!(queue.end(), end);
            }
            while let Some(run) = queue.take() {
                prop_assert!(run.end <= end);
                seen.extend(run);
            }
            let unique: std::collections::BTreeSet<_> = seen.iter().copied().collect();
            prop_assert_eq!(unique.len(), seen.len());
            prop_assert!((0..end).all(|n| unique.contains(&n)));
            (0..end).for_each(|n| queue.finish(n));
            prop_assert!(queue.is_low());
        }
    }
}
