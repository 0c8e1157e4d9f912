//! Progress of what has one number only: a direct download, an upload, or a check of a local file.

use std::{
    convert::Infallible,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use tokio::time;
use wire::FileName;

use super::{bars::BAR, display::Display, line_gate::LineGate};
use crate::{
    background,
    output::{BARS, print_json, status},
    text,
};

/// Direction of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// Bytes come from an origin.
    Download,
    /// Bytes go to file servers.
    Upload,
    /// Bytes of a local file are hashed.
    Check,
}

/// Progress of one transfer.
pub(crate) struct TransferProgress {
    display: Display,
    direction: Direction,
    name: FileName,
    size: Option<u64>,
    started: Instant,
    /// Bytes that an earlier run transferred.
    resumed: u64,
    last_shown: Option<Instant>,
    gate: LineGate,
    bar: Option<ProgressBar>,
}

impl TransferProgress {
    pub(crate) fn new(display: Display, direction: Direction, name: &FileName, size: Option<u64>) -> Self {
        let bar = (display == Display::Bars).then(|| {
            let bar = BARS.add(size.map_or_else(ProgressBar::no_length, ProgressBar::new));
            let style = ProgressStyle::with_template(&format!("{{prefix}}\n{BAR}"));
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
            bar.set_prefix(name.to_string());
            bar
        });
        let started = Instant::now();
        let gate = LineGate::new(started, display.is_on_terminal());
        Self { display, direction, name: name.clone(), size, started, resumed: 0, last_shown: None, gate, bar }
    }

    /// Excludes bytes that an earlier run transferred from the rate.
    pub(crate) const fn resumed(mut self, bytes: u64) -> Self {
        self.resumed = bytes;
        self
    }

    /// Shows the bytes transferred so far, at most once per interval.
    pub(crate) fn show(&mut self, done: u64) {
        let now = Instant::now();
        if self.last_shown.is_some_and(|at| now.duration_since(at) < self.display.interval()) {
            return;
        }
        self.last_shown = Some(now);
        let millis = self.started.elapsed().as_millis().max(1);
        let fresh = u128::from(done.saturating_sub(self.resumed));
        let rate = u64::try_from(fresh * 1000 / millis).unwrap_or(u64::MAX);
        let remaining =
            self.size.and_then(|size| (size.saturating_sub(done)).checked_div(rate)).map(Duration::from_secs);
        let percent = self.size.map(|size| text::whole_percent(done, size));
        let line = self.line(done, rate, remaining);
        match (self.display, &self.bar) {
            (_, Some(bar)) => {
                bar.set_position(done);
                bar.set_message(line);
            }
            (Display::Json, _) => self.print_event(done, rate, remaining),
            (Display::Lines, _) if self.gate.opens(now, percent) => status(&format!("{}: {line}", self.name)),
            (Display::Background, _) => background::set_status(format!("{}: {line}", self.name)),
            (Display::Bars | Display::Lines | Display::Quiet, _) => {}
        }
    }

    fn line(&self, done: u64, rate: u64, remaining: Option<Duration>) -> String {
        let verb = match self.direction {
            Direction::Download => "",
            Direction::Upload => " sent",
            Direction::Check => " compared",
        };
        let done_of = match self.size {
            Some(size) => {
                format!("{} of {}{verb}, {} %", text::size(done), text::size(size), text::whole_percent(done, size))
            }
            None => format!("{}{verb}", text::size(done)),
        };
        let left = remaining.map_or_else(String::new, |remaining| format!(", {} left", text::remaining(remaining)));
        format!("{done_of}, {}{left}", text::rate(rate))
    }

    fn print_event(&self, done: u64, rate: u64, remaining: Option<Duration>) {
        let percent = self.size.map(|size| text::whole_percent(done, size));
        let remaining = remaining.map(|remaining| remaining.as_secs_f64());
        match self.direction {
            Direction::Download | Direction::Check => print_json(&json!({
                "event": if self.direction == Direction::Check { "hashing" } else { "progress" }, "bytes_done": done, "bytes_total": self.size, "bytes_per_second": rate,
                "percent": percent, "remaining_seconds": remaining,
            })),
            Direction::Upload => print_json(&json!({
                "event": "sent", "bytes": done, "bytes_total": self.size, "bytes_per_second": rate, "percent": percent,
                "remaining_seconds": remaining,
            })),
        }
    }
}

/// Shows a number of bytes that grows, until this future is dropped.
pub(crate) async fn watch_bytes(mut progress: TransferProgress, bytes: impl Fn() -> u64) -> Infallible {
    let mut ticks = time::interval(progress.display.interval());
    ticks.tick().await;
    loop {
        ticks.tick().await;
        progress.show(bytes());
    }
}

impl Drop for TransferProgress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
            BARS.remove(bar);
        }
    }
}
