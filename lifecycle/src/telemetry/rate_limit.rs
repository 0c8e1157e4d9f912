//! A rate limit for each log statement, so that a peer that triggers one again and again cannot fill the disk.

use std::{
    collections::HashMap,
    io::Write as _,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use tracing::{Event, Level, Metadata, Subscriber, callsite::Identifier};
use tracing_subscriber::{Layer, layer::Context};
use wire::grammar::counted;

use super::format::Format;

/// Lines that one statement may log within [`WINDOW`]. Levels below `info` are enabled on purpose and have no limit.
const MAX_LINES_PER_WINDOW: u32 = 100;
const WINDOW: Duration = Duration::from_secs(10);

/// Layer that drops the lines of a log statement above the limit, and reports how many it dropped.
#[derive(Debug)]
pub(super) struct RateLimit {
    format: Format,
    // One entry per log statement.
    statements: Mutex<HashMap<Identifier, Statement>>,
}

/// Lines of one log statement in the present window.
#[derive(Debug)]
struct Statement {
    since: Instant,
    logged: u32,
    dropped: u64,
}

impl Statement {
    /// Counts one more line at `now`. Returns whether it may be logged, and the number of lines dropped in the window before.
    fn admit(&mut self, now: Instant) -> (bool, u64) {
        let mut dropped = 0;
        if now.duration_since(self.since) >= WINDOW {
            dropped = self.dropped;
            *self = Self { since: now, logged: 0, dropped: 0 };
        }
        let admitted = self.logged < MAX_LINES_PER_WINDOW;
        if admitted {
            self.logged += 1;
        } else {
            self.dropped += 1;
        }
        (admitted, dropped)
    }
}

impl RateLimit {
    pub(super) fn new(format: Format) -> Self {
        Self { format, statements: Mutex::default() }
    }

    fn report(&self, statement: &Metadata<'_>, dropped: u64) {
        let (file, line) = (statement.file().unwrap_or("unknown"), statement.line().unwrap_or(0));
        // Written directly: an event would pass through this layer again.
        let mut out = std::io::stderr().lock();
        let _ = match self.format {
            Format::Text => {
                writeln!(out, "Dropped {} like the next one ({file}:{line})", counted(dropped, "more line"))
            }
            Format::Json => {
                let line = serde_json::json!({
                    "level": "WARN", "message": "Lines like the next one were dropped", "dropped": dropped,
                    "file": file, "line": line,
                });
                writeln!(out, "{line}")
            }
        };
    }
}

impl<S: Subscriber> Layer<S> for RateLimit {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let statement = event.metadata();
        if *statement.level() > Level::INFO {
            return true;
        }
        let now = Instant::now();
        let (admitted, dropped) = {
            let mut statements = self.statements.lock().unwrap_or_else(PoisonError::into_inner);
            statements.entry(statement.callsite()).or_insert(Statement { since: now, logged: 0, dropped: 0 }).admit(now)
        };
        if dropped > 0 {
            self.report(statement, dropped);
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_one_line_is_cut_and_counted_and_a_later_one_is_logged_again() {
        let begun = Instant::now();
        let mut statement = Statement { since: begun, logged: 0, dropped: 0 };
        let logged = (0..1000).filter(|_| statement.admit(begun).0).count();
        assert_eq!(logged, usize::try_from(MAX_LINES_PER_WINDOW).unwrap());
        assert_eq!(statement.admit(begun + WINDOW), (true, 900));
        assert_eq!(statement.admit(begun + WINDOW), (true, 0));
    }
}
