//! The pace of progress lines where no bar can be shown. Pure.

use std::time::{Duration, Instant};

/// Time before the first line: a short download needs none.
const FIRST_LINE_AFTER: Duration = Duration::from_secs(1);
/// Percent of the whole between two lines.
const STEP_PERCENT: u64 = 10;

/// Decides which progress lines are printed: a reader of a log wants few, a person at a simple terminal some more.
#[derive(Debug)]
pub(super) struct LineGate {
    started: Instant,
    last: Option<Line>,
    /// Shortest time between two lines.
    min_pause: Duration,
    /// Time after which a line comes although little was done.
    max_pause: Duration,
}

/// Line that was printed.
#[derive(Debug)]
struct Line {
    at: Instant,
    step: Option<u64>,
}

impl LineGate {
    pub(super) fn new(started: Instant, is_terminal: bool) -> Self {
        let (min, max) = if is_terminal { (2, 5) } else { (10, 60) };
        Self { started, last: None, min_pause: Duration::from_secs(min), max_pause: Duration::from_secs(max) }
    }

    /// Returns true if a line about a transfer that is done by `percent` is to be printed now.
    pub(super) fn opens(&mut self, now: Instant, percent: Option<u64>) -> bool {
        let step = percent.map(|percent| percent / STEP_PERCENT);
        let opens = match &self.last {
            None => now.saturating_duration_since(self.started) >= FIRST_LINE_AFTER,
            Some(last) => {
                let pause = now.saturating_duration_since(last.at);
                pause >= self.max_pause || (pause >= self.min_pause && last.step != step)
            }
        };
        if opens {
            self.last = Some(Line { at: now, step });
        }
        opens
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines that a transfer of so many seconds prints, looked at ten times a second.
    fn lines(seconds: u64, is_terminal: bool) -> usize {
        let begun = Instant::now();
        let mut gate = LineGate::new(begun, is_terminal);
        let looks = (0..seconds * 10).map(|tenth| (begun + Duration::from_millis(tenth * 100), tenth * 10 / seconds));
        looks.filter(|(at, percent)| gate.opens(*at, Some(*percent))).count()
    }

    #[test]
    fn a_log_gets_few_lines_however_long_a_transfer_takes() {
        for (seconds, is_terminal, expected) in [
            (1, false, 0),
            (6, false, 1),
            (100, false, 10),
            (300, false, 10),
            (3600, false, 60),
            (6, true, 3),
            (3600, true, 720),
        ] {
            let printed = lines(seconds, is_terminal);
            assert!(printed.abs_diff(expected) <= 1, "{seconds} s, terminal {is_terminal}: {printed}");
        }
    }

    #[test]
    fn a_transfer_of_unknown_size_is_told_of_now_and_then() {
        let begun = Instant::now();
        let mut gate = LineGate::new(begun, false);
        let at: Vec<u64> = (0..200).filter(|second| gate.opens(begun + Duration::from_secs(*second), None)).collect();
        assert_eq!(at, [1, 61, 121, 181]);
    }
}
