//! Bars on a terminal: one for the file, one line per server.

use std::collections::BTreeMap;

use indicatif::{ProgressBar, ProgressStyle};
use transfer::progress::{HashProgress, Snapshot};
use wire::{FileName, ServerId, job::JobInfo};

use super::{job_lines, summary};
use crate::output::{BARS, current_item};

/// Template in which the bar shrinks, down to nothing: no line is longer than the terminal.
pub(super) const BAR: &str = "[{wide_bar}] {msg}";
/// Template of a line that is truncated at the width of the terminal.
const LINE: &str = "{wide_msg}";

pub(super) struct Bars {
    head: ProgressBar,
    file: ProgressBar,
    /// One line per server, whether it serves chunks, fetches them, or both.
    servers: BTreeMap<ServerId, ProgressBar>,
    /// Set if other downloads are shown beside this one: then servers have no lines.
    is_compact: bool,
}

impl Bars {
    pub(super) fn new(name: &FileName) -> Self {
        let head = BARS.add(text_line());
        head.set_message(name.to_string());
        let style = ProgressStyle::with_template(BAR).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = BARS.insert_after(&head, ProgressBar::new(1));
        bar.set_style(style.progress_chars("=> "));
        Self { head, file: bar, servers: BTreeMap::new(), is_compact: current_item().is_some() }
    }

    /// Shows that the chunks of an earlier run are being hashed.
    pub(super) fn show_hashing(&self, name: &FileName, hashed: &HashProgress) {
        self.head.set_message(format!("{name}: {}", summary::hashing(hashed)));
        self.head.tick();
    }

    pub(super) fn show(&mut self, name: &FileName, now: &Snapshot, job: Option<&JobInfo>) {
        self.file.set_length(now.bytes_total.max(1));
        let fetched = job.map(|job| format!("  ({})", job_lines::fetched(job))).unwrap_or_default();
        self.head.set_message(format!("{name}{fetched}"));
        self.head.tick();
        self.file.set_position(now.bytes_done);
        self.file.set_message(summary::summary(now, job));
        if self.is_compact {
            return;
        }
        for row in summary::server_rows(now, job) {
            let line = self.servers.entry(row.server).or_insert_with(|| BARS.add(text_line()));
            line.set_message(row.text);
            line.tick();
        }
    }

    pub(super) fn print_above(&self, line: &str) {
        // Fails only when the terminal is closed.
        let _ = BARS.println(line);
    }
}

fn text_line() -> ProgressBar {
    let line = ProgressBar::new_spinner();
    line.set_style(ProgressStyle::with_template(LINE).unwrap_or_else(|_| ProgressStyle::default_spinner()));
    line
}

impl Drop for Bars {
    fn drop(&mut self) {
        for line in self.servers.values().chain([&self.head, &self.file]) {
            line.finish_and_clear();
            BARS.remove(line);
        }
    }
}
