//! Bars on a terminal: one for the file, one line per server.

use std::collections::BTreeMap;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use transfer::progress::Snapshot;
use wire::{ServerId, catalog::FileSummary};

use super::{remaining, state};
use crate::text;

const TEMPLATE: &str = "{prefix}\n[{bar:40}] {msg}";

pub(super) struct Bars {
    all: MultiProgress,
    file: ProgressBar,
    servers: BTreeMap<ServerId, ProgressBar>,
}

impl Bars {
    pub(super) fn new(file: &FileSummary) -> Self {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10));
        let style = ProgressStyle::with_template(TEMPLATE).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = all.add(ProgressBar::new(file.size.max(1)));
        bar.set_style(style.progress_chars("=> "));
        bar.set_prefix(file.name.to_string());
        Self { all, file: bar, servers: BTreeMap::new() }
    }

    pub(super) fn show(&mut self, now: &Snapshot) {
        self.file.set_position(now.bytes_done);
        self.file.set_message(format!(
            "{}/{} chunks  {:>3} %  {}  {} left",
            now.chunks_done,
            now.chunks_total,
            text::whole_percent(now.bytes_done, now.bytes_total),
            text::rate(now.rate),
            remaining(now)
        ));
        for source in &now.sources {
            let line = self.servers.entry(source.server.clone()).or_insert_with(|| {
                let bar = self.all.add(ProgressBar::new_spinner());
                bar.set_style(
                    ProgressStyle::with_template("  {msg}").unwrap_or_else(|_| ProgressStyle::default_spinner()),
                );
                bar
            });
            let share = text::whole_percent(source.bytes, now.bytes_done.max(1));
            line.set_message(format!(
                "{:<18} {:<10} {:>10} {share:>3} %  {:>12}  {}",
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

impl Drop for Bars {
    fn drop(&mut self) {
        self.servers.values().chain([&self.file]).for_each(ProgressBar::finish_and_clear);
        let _ = self.all.clear();
    }
}
