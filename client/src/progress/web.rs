//! What a user sees of a file of the web: who fetches what, and how it was checked.

use std::{
    convert::Infallible,
    io::{self, IsTerminal as _},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;
use tokio::sync::mpsc::Receiver;
use transfer::progress::{Notice, Progress};
use wire::{
    FileName,
    job::{Checked, JobInfo, WorkerInfo, WorkerState},
};

use super::{Display, bars::BAR, finish, show};
use crate::{
    commands::{emit, say, tell},
    fetch::{Fetched, Why},
    shell, text,
};

/// Shows a job until it is dropped.
pub(crate) async fn watch_job(
    display: Display,
    progress: (Progress, Receiver<Notice>),
    job: impl Fn() -> JobInfo,
) -> Infallible {
    show(display, progress, || {
        let job = job();
        (job.name.clone(), Some(job))
    })
    .await
}

/// How far the workers are with the whole.
pub(crate) fn whole(job: &JobInfo) -> String {
    let (state, origin) = (job.state.as_str(), job.url.origin());
    if job.chunks == 0 {
        return state.to_owned();
    }
    format!("{state}: {} of {} chunks fetched from {origin}", job.fetched, job.chunks)
}

/// One line for all workers.
pub(super) fn work(job: &JobInfo) -> String {
    let each = job.workers.iter().map(|at| format!("{} {} {}", at.server, text::rate(at.rate), does(at.state)));
    let each: Vec<String> = each.collect();
    if each.is_empty() { whole(job) } else { format!("{} [{}]", whole(job), each.join("; ")) }
}

/// One line for one worker.
pub(crate) fn worker(at: &WorkerInfo) -> String {
    let (chunks, bytes, rate) = (at.chunks, text::size(at.bytes), text::rate(at.rate));
    let does = does(at.state);
    format!("{:<18} {:<10} {bytes:>10} {rate:>12}  {does}, {chunks} chunks from the origin", at.server, at.zone)
}

const fn does(state: WorkerState) -> &'static str {
    match state {
        WorkerState::Fetching => "fetching",
        WorkerState::Waiting => "waiting",
        WorkerState::Gone => "gone",
        WorkerState::Excluded => "excluded",
    }
}

/// Says something of what goes on.
pub(crate) fn note(display: Display, event: &str, words: &str) {
    match display {
        Display::Json => emit(&json!({ "event": event, "message": words })),
        Display::Bars | Display::Lines | Display::Beside => tell(words),
        Display::Quiet => {}
    }
}

/// Says that a file is fetched from here alone, and why.
pub(crate) fn alone(display: Display, why: &Why) {
    match display {
        Display::Json => emit(&json!({ "event": "alone", "reason": why.reason, "message": why.words })),
        Display::Bars | Display::Lines | Display::Beside => {
            tell(&format!("Fetching it from here alone: {}.", why.words))
        }
        Display::Quiet => {}
    }
}

/// The progress of a plain download.
pub(crate) struct Line {
    display: Display,
    name: FileName,
    size: Option<u64>,
    began: (Instant, u64),
    shown: Option<Instant>,
    bar: Option<ProgressBar>,
}

impl Line {
    pub(crate) fn new(display: Display, name: &FileName, size: Option<u64>, from: u64) -> Self {
        let bar = (display == Display::Bars && io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::with_draw_target(size, ProgressDrawTarget::stderr_with_hz(10));
            let style = ProgressStyle::with_template(&format!("{{prefix}}\n{BAR}"));
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
            bar.set_prefix(name.to_string());
            bar
        });
        let began = Instant::now();
        // A line of a log is worth it only if there is something to wait for.
        let shown = (display == Display::Lines).then_some(began);
        Self { display, name: name.clone(), size, began: (began, from), shown, bar }
    }

    /// Shows that so many bytes are here, if it is time to.
    pub(crate) fn show(&mut self, received: u64) {
        if self.shown.is_some_and(|at| at.elapsed() < self.display.every()) {
            return;
        }
        self.shown = Some(Instant::now());
        let millis = self.began.0.elapsed().as_millis().max(1);
        let rate = u64::try_from(u128::from(received.saturating_sub(self.began.1)) * 1000 / millis).unwrap_or(u64::MAX);
        let left =
            self.size.and_then(|size| (size.saturating_sub(received)).checked_div(rate)).map(Duration::from_secs);
        let of = self.size.map_or_else(String::new, |size| {
            format!(" of {}, {} %", text::size(size), text::whole_percent(received, size))
        });
        let left_words = left.map_or_else(String::new, |left| format!(", {} left", text::left(left)));
        let words = format!("{}{of}, {}{left_words}", text::size(received), text::rate(rate));
        match (self.display, &self.bar) {
            (_, Some(bar)) => {
                bar.set_position(received);
                bar.set_message(words);
            }
            (Display::Json, _) => emit(&json!({
                "event": "progress", "bytes_done": received, "bytes_total": self.size, "bytes_per_second": rate,
                "percent": self.size.map(|size| text::whole_percent(received, size)),
                "remaining_seconds": left.map(|left| left.as_secs_f64()),
            })),
            (Display::Lines, _) => tell(&format!("{}: {words}", self.name)),
            (Display::Beside, _) => shell::note_status(format!("{}: {words}", self.name)),
            (Display::Bars | Display::Quiet, _) => {}
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.bar.iter().for_each(ProgressBar::finish_and_clear);
    }
}

/// How a result was checked, for people.
const fn checked(how: Checked) -> &'static str {
    match how {
        Checked::Sha256 => "sha256 (it has the SHA-256 that was asked for)",
        Checked::Origin => "origin (it has the SHA-256 that the origin gave)",
        Checked::Sampled => "sampled (some chunks of each worker were fetched by another one and compared)",
        Checked::Unchecked => "unchecked (there was nothing to compare with)",
    }
}

/// Prints what came of it.
pub(crate) fn fetched(display: Display, file: &Fetched) {
    if display == Display::Json {
        emit(
            &json!({ "event": "done", "path": file.path, "fetched": file, "report": file.report, "checked": file.checked }),
        );
        return;
    }
    match &file.report {
        Some(report) => finish(display, &file.path, report),
        None if display == Display::Quiet => say(&file.path.display().to_string()),
        None => {
            say(&format!("{}: {} in {}", file.path.display(), text::size(file.size), text::time(file.elapsed)));
        }
    }
    if display == Display::Quiet {
        return;
    }
    if let Some(job) = &file.job {
        let all: u64 = job.workers.iter().map(|worker| worker.bytes).sum();
        if all > 0 {
            say(&format!("  {} fetched from {}:", text::size(all), job.url.origin()));
        }
        for at in job.workers.iter().filter(|at| at.bytes > 0) {
            let share =
                text::percent(u32::try_from(u128::from(at.bytes) * 1000 / u128::from(all.max(1))).unwrap_or(1000));
            say(&format!("  {:<18} {:<10} {:>10}  {share:>7}", at.server, at.zone, text::size(at.bytes)));
        }
    }
    if let Some(saved) = file.saved_seconds.filter(|saved| *saved >= 0.01) {
        let saved = text::time(Duration::try_from_secs_f64(saved).unwrap_or_default());
        say(&format!("  the fastest of them alone would have needed {saved} more"));
    }
    if let Some(why) = &file.alone {
        say(&format!("  fetched from here alone: {}", why.words));
    }
    say(&format!("  checked: {}", checked(file.checked)));
    if let Some(sha256) = file.sha256 {
        say(&format!("  sha256:  {sha256}"));
    }
}
