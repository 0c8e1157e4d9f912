//! What is left of a lease, shared by the lines that fetch it. Pure.
//!
//! Invariant: a chunk is handed out once, and none at or after the end, which only comes nearer.

use std::{
    collections::VecDeque,
    ops::Range,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;
use wire::Runs;

/// The chunks of one lease.
#[derive(Debug)]
pub(super) struct Work {
    lines: u32,
    state: Mutex<State>,
    /// The end is near: it is time to ask for the next lease.
    pub(super) nearly: Notify,
}

#[derive(Debug)]
struct State {
    /// Not handed out yet.
    waiting: VecDeque<Range<u32>>,
    end: u32,
    /// Chunks that are not finished, handed out or not.
    left: Runs,
    /// So few of them mean that the end is near.
    few: u32,
}

impl Work {
    /// The chunks `left` of a span that ends at `end`, for so many lines.
    pub(super) fn new(left: Runs, end: u32, lines: u8) -> Self {
        let few = (left.len() / 4).max(1);
        let waiting = left.iter().collect();
        let work = Self {
            lines: u32::from(lines.max(1)),
            state: Mutex::new(State { waiting, end, left, few }),
            nearly: Notify::new(),
        };
        work.look(&work.state());
        work
    }

    /// The next chunks for one line, as one request: all of them when there is only one line, as nothing else could be asked
    /// for meanwhile; else so few that the lines end at about the same time.
    pub(super) fn take(&self) -> Option<Range<u32>> {
        let mut state = self.state();
        let waiting: u32 = state.waiting.iter().map(|run| run.end - run.start).sum();
        let share = if self.lines == 1 { waiting } else { waiting.div_ceil(2 * self.lines) };
        let mut run = state.waiting.pop_front()?;
        if run.end - run.start > share {
            let cut = run.start + share;
            state.waiting.push_front(cut..run.end);
            run.end = cut;
        }
        Some(run)
    }

    /// A chunk is finished.
    pub(super) fn finish(&self, chunk: u32) {
        let mut state = self.state();
        state.left.remove(chunk..chunk.saturating_add(1));
        self.look(&state);
    }

    /// The span ends here now.
    pub(super) fn cut(&self, end: u32) {
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
        self.look(&state);
    }

    /// The first chunk that is none of this lease any more.
    pub(super) fn end(&self) -> u32 {
        self.state().end
    }

    /// Whether little is left.
    pub(super) fn is_nearly_over(&self) -> bool {
        let state = self.state();
        state.left.len() <= state.few
    }

    fn look(&self, state: &State) {
        if state.left.len() <= state.few {
            self.nearly.notify_one();
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

    fn work(run: Range<u32>, lines: u8) -> Work {
        let end = run.end;
        Work::new(std::iter::once(run).collect(), end, lines)
    }

    #[test]
    fn one_line_asks_once_and_several_share() {
        assert_eq!(work(3..9, 1).take(), Some(3..9));
        let shared = work(0..8, 4);
        let first: Vec<_> = std::iter::repeat_with(|| shared.take().unwrap()).take(4).collect();
        assert_eq!(first, [0..1, 1..2, 2..3, 3..4]);
        assert_eq!(work(0..64, 4).take(), Some(0..8));
    }

    proptest! {
        #[test]
        fn every_chunk_before_the_end_is_handed_out_once_and_none_after_it(
            span in 1_u32..80, lines in 1_u8..17, cuts in prop::collection::vec((0_u32..80, 0_usize..4), 0..6),
        ) {
            let work = work(0..span, lines);
            let (mut seen, mut end) = (Vec::new(), span);
            for (cut, takes) in cuts {
                for _ in 0..takes {
                    let Some(run) = work.take() else { break };
                    prop_assert!(run.start < run.end && run.end <= end, "{run:?} {end}");
                    seen.extend(run);
                }
                work.cut(cut);
                end = end.min(cut);
                prop_assert_eq!(work.end(), end);
            }
            while let Some(run) = work.take() {
                prop_assert!(run.end <= end);
                seen.extend(run);
            }
            let unique: std::collections::BTreeSet<_> = seen.iter().copied().collect();
            prop_assert_eq!(unique.len(), seen.len());
            prop_assert!((0..end).all(|n| unique.contains(&n)));
            (0..end).for_each(|n| work.finish(n));
            prop_assert!(work.is_nearly_over());
        }
    }
}
