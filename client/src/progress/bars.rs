//! Bars on a terminal: one for the file, one line per server.

use std::collections::BTreeMap;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use transfer::progress::Snapshot;
use wire::{FileName, ServerId, job::JobInfo};

use super::{far, state, web};
use crate::text;

/// What is wide gives way to what is not, down to nothing: no line is longer than the terminal.
pub(super) const BAR: &str = "[{wide_bar}] {msg}";
/// A line that is cut where the terminal ends.
const LINE: &str = "{wide_msg}";

pub(super) struct Bars {
    all: MultiProgress,
    head: ProgressBar,
    file: ProgressBar,
    servers: BTreeMap<ServerId, ProgressBar>,
    workers: BTreeMap<ServerId, ProgressBar>,
}

impl Bars {
    pub(super) fn new(name: &FileName) -> Self {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10));
        let head = all.add(text_line());
        head.set_message(name.to_string());
        let style = ProgressStyle::with_template(BAR).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = all.add(ProgressBar::new(1));
        bar.set_style(style.progress_chars("=> "));
        Self { all, head, file: bar, servers: BTreeMap::new(), workers: BTreeMap::new() }
    }

    pub(super) fn show(&mut self, name: &FileName, now: &Snapshot, job: Option<&JobInfo>) {
        self.file.set_length(now.bytes_total.max(1));
        let whole = job.map(|job| format!("  ({})", web::whole(job))).unwrap_or_default();
        self.head.set_message(format!("{name}{whole}"));
        self.head.tick();
        self.show_servers(now, job);
        for worker in job.into_iter().flat_map(|job| &job.workers) {
            let line = entry(&self.all, &mut self.workers, &worker.server);
            line.set_message(format!("  {}", web::worker(worker)));
            line.tick();
        }
    }

    fn show_servers(&mut self, now: &Snapshot, job: Option<&JobInfo>) {
        self.file.set_position(now.bytes_done);
        self.file.set_message(far::far(now, job));
        for source in far::noteworthy(now, job) {
            let line = entry(&self.all, &mut self.servers, &source.server);
            let share = text::whole_percent(source.bytes, now.bytes_done.max(1));
            line.set_message(format!(
                "  {:<18} {:<10} {:>10} {:>12}  {share:>3} %  {}",
                source.server,
                source.zone,
                text::size(source.bytes),
                text::rate(source.rate),
                state(source.state)
            ));
            line.tick();
        }
    }

    pub(super) fn say(&self, words: &str) {
        // Above the bars; when the terminal is gone there is nobody to tell.
        let _ = self.all.println(words);
    }
}

/// The line of a server, made when it is first seen.
fn entry<'a>(
    all: &MultiProgress,
    lines: &'a mut BTreeMap<ServerId, ProgressBar>,
    server: &ServerId,
) -> &'a ProgressBar {
    lines.entry(server.clone()).or_insert_with(|| all.add(text_line()))
}

fn text_line() -> ProgressBar {
    let line = ProgressBar::new_spinner();
    line.set_style(ProgressStyle::with_template(LINE).unwrap_or_else(|_| ProgressStyle::default_spinner()));
    line
}

impl Drop for Bars {
    fn drop(&mut self) {
        self.servers
            .values()
            .chain(self.workers.values())
            .chain([&self.head, &self.file])
            .for_each(ProgressBar::finish_and_clear);
        let _ = self.all.clear();
    }
}
