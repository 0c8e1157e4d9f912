//! The beginning and the result of a download.

use std::{fmt, path::Path, time::Duration};

use serde_json::json;
use transfer::download::{Outcome, Report};
use wire::{
    TraceId,
    grammar::counted,
    job::{Checked, JobInfo},
};

use super::display::{Display, ShownFile};
use crate::{
    output::{current_item, print, print_json, status},
    text,
    url_download::{DirectReason, FetchedFile},
};

/// Announces a download and its trace id in the servers' logs.
pub fn start(display: Display, file: &ShownFile, trace: TraceId) {
    if display == Display::Json {
        print_json(&json!({
            "event": "start", "trace": trace.to_string(), "file": file.id, "name": file.name, "bytes_total": file.size,
        }));
    }
}

/// Prints a notice.
pub(crate) fn note(display: Display, event: &str, text: &str) {
    match display {
        Display::Json => print_json(&json!({ "event": event, "message": text })),
        Display::Bars | Display::Lines | Display::Background => status(text),
        Display::Quiet => {}
    }
}

/// Prints the reason for a direct download.
pub(crate) fn show_direct_reason(display: Display, reason: &DirectReason) {
    match display {
        Display::Json => print_json(&json!({ "event": "alone", "reason": reason.reason, "message": reason.text })),
        Display::Bars | Display::Lines | Display::Background => {
            status(&format!("Downloading directly, without file servers: {}", reason.text));
        }
        Display::Quiet => {}
    }
}

/// Prints the result of a download.
pub fn finish(display: Display, path: &Path, report: &Report) {
    if display == Display::Json {
        print_json(&json!({ "event": "done", "path": path, "report": report }));
        return;
    }
    if display == Display::Quiet {
        print(&path.display().to_string());
        return;
    }
    let seconds = report.elapsed.as_secs_f64();
    // For display only: a rate needs no more digits than a double has.
    let mean = Duration::from_secs_f64(seconds.max(0.001));
    let rate = u64::try_from(u128::from(report.fetched) * 1000 / mean.as_millis().max(1)).unwrap_or(u64::MAX);
    let (size, elapsed, rate) = (text::size(report.size), text::time(report.elapsed), text::rate(rate));
    print(&format!("{}: {size} verified in {elapsed}, {rate}", path.display()));
    if report.resumed > 0 {
        print(&format!("  resumed: {} downloaded earlier, verified again", text::size(report.resumed)));
    }
    for source in &report.sources {
        let outcome = match &source.outcome {
            Outcome::Fine => String::new(),
            Outcome::Failing { reason } => format!("  failing: {reason}"),
            Outcome::Dropped { reason } => format!("  dropped: {reason}"),
        };
        print(&format!(
            "  {:<18} {:<10} {:>10}  {:>7}  {}, {} failed{outcome}",
            source.server,
            source.zone,
            text::size(source.bytes),
            text::percent(source.share_permille),
            counted(source.requests, "request"),
            source.failures
        ));
    }
    if report.switches > 0 || report.wasted > 0 {
        print(&format!(
            "  work moved between servers {}, {} discarded",
            counted(report.switches, "time"),
            text::size(report.wasted)
        ));
    }
}

/// Prints the result of a URL download.
pub(crate) fn finish_url(display: Display, file: &FetchedFile) {
    if display == Display::Json {
        print_json(
            &json!({ "event": "done", "path": file.path, "fetched": file, "report": file.report, "checked": file.checked }),
        );
        return;
    }
    match &file.report {
        Some(report) => finish(display, &file.path, report),
        None if display == Display::Quiet => print(&file.path.display().to_string()),
        None => {
            print(&format!("{}: {} in {}", file.path.display(), text::size(file.size), text::time(file.elapsed)));
        }
    }
    if display == Display::Quiet {
        return;
    }
    file.job.iter().for_each(|job| print_workers(job));
    if let Some(reason) = &file.direct {
        print(&format!("  downloaded directly: {}", reason.text));
    }
    match file.unchecked_reason {
        Some(reason) => print(&format!("  checked: unchecked ({reason})")),
        None => print(&format!("  checked: {}", checked(file.checked))),
    }
    if let Some(sha256) = file.sha256 {
        print(&format!("  sha256:  {sha256}"));
    }
}

fn print_workers(job: &JobInfo) {
    let all: u64 = job.workers.iter().map(|worker| worker.bytes).sum();
    if all > 0 {
        print(&format!("  {} fetched from {}:", text::size(all), job.url.origin()));
    }
    for worker in job.workers.iter().filter(|worker| worker.bytes > 0) {
        let permille = u128::from(worker.bytes) * 1000 / u128::from(all.max(1));
        let share = text::percent(u32::try_from(permille).unwrap_or(1000));
        print(&format!("  {:<18} {:<10} {:>10}  {share:>7}", worker.server, worker.zone, text::size(worker.bytes)));
    }
}

const fn checked(how: Checked) -> &'static str {
    match how {
        Checked::Sha256 => "sha256 (matches the requested SHA-256)",
        Checked::Origin => "origin (matches the SHA-256 given by the origin)",
        Checked::Sampled => "sampled (some chunks of each worker were fetched again by another and compared)",
        Checked::Unchecked => "unchecked (no SHA-256 to compare with)",
    }
}

/// Progress that a download had made when it was interrupted. It is the context of the interruption's error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reached {
    /// Bytes that the next run need not fetch again.
    pub(crate) done: u64,
    /// Bytes of the file, if they are known.
    pub(crate) total: Option<u64>,
}

impl Reached {
    /// Returns the progress that was attached to an error.
    pub(crate) fn of(error: &anyhow::Error) -> Self {
        error.downcast_ref().copied().unwrap_or(Self { done: 0, total: None })
    }
}

impl fmt::Display for Reached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.done, self.total.filter(|total| *total > 0)) {
            (0, _) => f.write_str("Interrupted before anything was stored. Run the same command to start again."),
            (done, None) => write!(f, "Interrupted: {} are stored. Run the same command to resume.", text::size(done)),
            (done, Some(total)) => write!(
                f,
                "Interrupted at {} %: {} of {} are stored. Run the same command to resume.",
                text::whole_percent(done, total),
                text::size(done),
                text::size(total)
            ),
        }
    }
}

/// Prints that a signal interrupted the download, how far it came, and how to go on.
pub(crate) fn interrupted(display: Display, reached: &Reached) {
    if display == Display::Json {
        print_json(&json!({ "event": "interrupted", "bytes_done": reached.done, "bytes_total": reached.total }));
    } else {
        let item = current_item().map(|item| format!("{}: ", text::plain_line(&item))).unwrap_or_default();
        status(&format!("{item}{reached}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interruption_says_how_far_it_came_and_how_to_go_on() {
        for (done, total, said) in [
            (0, None, "before anything was stored"),
            (0, Some(4 << 20), "Run the same command to start again."),
            (1 << 20, None, "Interrupted: 1.0 MiB are stored. Run the same command to resume."),
            (
                1 << 20,
                Some(4 << 20),
                "Interrupted at 25 %: 1.0 MiB of 4.0 MiB are stored. Run the same command to resume.",
            ),
        ] {
            let shown = Reached { done, total }.to_string();
            assert!(shown.contains(said), "{shown}");
        }
    }
}
