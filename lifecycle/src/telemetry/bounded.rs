//! A bound on what one place in the code may say: whoever makes it say the same thing for ever must not fill a disk.

use std::{
    collections::HashMap,
    io::Write as _,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use tracing::{Event, Level, Metadata, Subscriber, callsite::Identifier};
use tracing_subscriber::{Layer, layer::Context};

use super::Format;

/// Lines of one place within [`WINDOW`]; what is below `info` was asked for and has no bound.
const MOST: u32 = 100;
const WINDOW: Duration = Duration::from_secs(10);

/// Leaves out what is said too often, and says how much was left out.
#[derive(Debug)]
pub(super) struct Bounded {
    format: Format,
    // One entry per place in the code.
    places: Mutex<HashMap<Identifier, Place>>,
}

#[derive(Debug)]
struct Place {
    since: Instant,
    said: u32,
    left_out: u64,
}

impl Place {
    /// Whether one more may be said at `now`, and how many were left out before it.
    fn admit(&mut self, now: Instant) -> (bool, u64) {
        let mut left_out = 0;
        if now.duration_since(self.since) >= WINDOW {
            left_out = self.left_out;
            *self = Self { since: now, said: 0, left_out: 0 };
        }
        let admitted = self.said < MOST;
        if admitted {
            self.said += 1;
        } else {
            self.left_out += 1;
        }
        (admitted, left_out)
    }
}

impl Bounded {
    pub(super) fn new(format: Format) -> Self {
        Self { format, places: Mutex::default() }
    }

    fn tell(&self, place: &Metadata<'_>, left_out: u64) {
        let (file, line) = (place.file().unwrap_or("unknown"), place.line().unwrap_or(0));
        // Not an event: it would come back here.
        let mut out = std::io::stderr().lock();
        let _ = match self.format {
            Format::Text => writeln!(out, "{left_out} more lines like the next one were left out ({file}:{line})"),
            Format::Json => {
                let line = serde_json::json!({
                    "level": "WARN", "message": "lines like the next one were left out", "left_out": left_out,
                    "file": file, "line": line,
                });
                writeln!(out, "{line}")
            }
        };
    }
}

impl<S: Subscriber> Layer<S> for Bounded {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let place = event.metadata();
        if *place.level() > Level::INFO {
            return true;
        }
        let now = Instant::now();
        let (admitted, left_out) = {
            let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
            places.entry(place.callsite()).or_insert(Place { since: now, said: 0, left_out: 0 }).admit(now)
        };
        if left_out > 0 {
            self.tell(place, left_out);
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_one_line_is_cut_and_counted_and_a_later_one_is_said_again() {
        let begun = Instant::now();
        let mut place = Place { since: begun, said: 0, left_out: 0 };
        let said = (0..1000).filter(|_| place.admit(begun).0).count();
        assert_eq!(said, usize::try_from(MOST).unwrap());
        assert_eq!(place.admit(begun + WINDOW), (true, 900));
        assert_eq!(place.admit(begun + WINDOW), (true, 0));
    }
}
