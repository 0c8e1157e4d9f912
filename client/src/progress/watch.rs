//! The display of a running download.

use std::{convert::Infallible, time::Instant};

use serde_json::{Value, json};
use tokio::{sync::mpsc::Receiver, time};
use transfer::progress::{HashProgress, Notice, Progress, Snapshot};
use wire::{FileName, grammar::counted, job::JobInfo};

use super::{
    bars::Bars,
    display::{Display, ShownFile},
    job_lines,
    line_gate::LineGate,
    summary::{self, JobRate},
};
use crate::{
    background,
    output::{current_item, print_json, status},
    text,
};

/// Progress of a download and the notices about it.
#[derive(Debug)]
pub struct ProgressFeed {
    /// Counters, which other tasks may read as well.
    pub progress: Progress,
    /// Notices for the user.
    pub notices: Receiver<Notice>,
}

impl ProgressFeed {
    /// Creates the feed of a download that has not begun.
    #[expect(clippy::new_without_default, reason = "a feed that nothing reports to is no useful default")]
    pub fn new() -> Self {
        let (progress, notices) = Progress::new();
        Self { progress, notices }
    }
}

/// Shows a download until this future is dropped, which removes the bars.
pub async fn watch(display: Display, file: ShownFile, progress: Progress, notices: Receiver<Notice>) -> Infallible {
    show(display, ProgressFeed { progress, notices }, || (file.name.clone(), None)).await
}

/// Shows the download of a job's file until this future is dropped.
pub(crate) async fn watch_job(display: Display, feed: ProgressFeed, job: impl Fn() -> JobInfo) -> Infallible {
    show(display, feed, || {
        let job = job();
        (job.name.clone(), Some(job))
    })
    .await
}

/// Shows a download. `current` returns the name of the file and the state of its job, both of which may change.
async fn show(display: Display, feed: ProgressFeed, current: impl Fn() -> (FileName, Option<JobInfo>)) -> Infallible {
    let ProgressFeed { progress, mut notices } = feed;
    let mut bars = (display == Display::Bars).then(|| Bars::new(&current().0));
    let mut ticks = time::interval(display.interval());
    let mut gate = LineGate::new(Instant::now(), display.is_on_terminal());
    let mut hashing = HashingDisplay { display, gate: LineGate::new(Instant::now(), display.is_on_terminal()) };
    let mut shown_job: Option<JobInfo> = None;
    let mut rate = JobRate::default();
    let mut is_open = true;
    loop {
        tokio::select! {
            notice = notices.recv(), if is_open => match notice {
                Some(Notice::Waiting { .. }) if current().1.as_ref().is_some_and(summary::expects_chunks) => {}
                Some(notice) => show_notice(display, bars.as_ref(), &notice),
                None => is_open = false,
            },
            _ = ticks.tick() => {
                let mut now = progress.snapshot();
                let (name, job) = current();
                if job.is_some() {
                    rate.correct(&mut now, Instant::now());
                }
                if display == Display::Json && shown_job != job {
                    job.iter().for_each(|job| print_json(&json!({ "event": "job", "job": job })));
                    shown_job.clone_from(&job);
                }
                if now.bytes_total == 0 && job.is_none() {
                    if let Some(hashed) = now.hashing.filter(|hashed| hashed.bytes_total > 0) {
                        hashing.show(&bars, &name, &hashed);
                    }
                    continue;
                }
                match (display, &mut bars) {
                    (Display::Bars, Some(bars)) => bars.show(&name, &now, job.as_ref()),
                    (Display::Lines, _) => {
                        let percent = (now.bytes_total > 0).then(|| text::whole_percent(now.bytes_done, now.bytes_total));
                        if gate.opens(Instant::now(), percent) {
                            status(&line(&name, &now, job.as_ref()));
                        }
                    }
                    (Display::Background, _) => background::set_status(line(&name, &now, job.as_ref())),
                    (Display::Json, _) if now.bytes_total > 0 => print_json(&snapshot_event(&now)),
                    (Display::Bars | Display::Json | Display::Quiet, _) => {}
                }
            }
        }
    }
}

/// Display of the hashing of what an earlier run left.
struct HashingDisplay {
    display: Display,
    gate: LineGate,
}

impl HashingDisplay {
    fn show(&mut self, bars: &Option<Bars>, name: &FileName, hashed: &HashProgress) {
        let (done, total) = (hashed.bytes_done, hashed.bytes_total);
        let line = || format!("{name}: {}", summary::hashing(hashed));
        match (self.display, bars) {
            (Display::Bars, Some(bars)) => bars.show_hashing(name, hashed),
            (Display::Lines, _) if self.gate.opens(Instant::now(), Some(text::whole_percent(done, total))) => {
                status(&line());
            }
            (Display::Background, _) => background::set_status(line()),
            (Display::Json, _) => print_json(&json!({ "event": "hashing", "bytes_done": done, "bytes_total": total })),
            (Display::Bars | Display::Lines | Display::Quiet, _) => {}
        }
    }
}

pub(super) fn line(name: &FileName, now: &Snapshot, job: Option<&JobInfo>) -> String {
    let sources: Vec<String> = summary::shown_sources(now, job)
        .map(|source| format!("{} {} {}", source.server, text::rate(source.rate), summary::activity(source.state)))
        .collect();
    let sources = if sources.is_empty() { String::new() } else { format!(" [{}]", sources.join("; ")) };
    let workers = job.map(|job| format!("; {}", job_lines::workers(job))).unwrap_or_default();
    format!("{name}: {}{sources}{workers}", summary::summary(now, job))
}

fn snapshot_event(now: &Snapshot) -> Value {
    let sources: Vec<Value> = now
        .sources
        .iter()
        .map(|source| {
            json!({ "server": source.server, "zone": source.zone, "bytes": source.bytes,
                    "bytes_per_second": source.rate, "state": summary::activity(source.state) })
        })
        .collect();
    json!({
        "event": "progress",
        "chunks_done": now.chunks_done,
        "chunks_total": now.chunks_total,
        "bytes_done": now.bytes_done,
        "bytes_total": now.bytes_total,
        "percent": text::whole_percent(now.bytes_done, now.bytes_total),
        "bytes_per_second": now.rate,
        "remaining_seconds": now.remaining.map(|remaining| remaining.as_secs_f64()),
        "sources": sources,
    })
}

fn show_notice(display: Display, bars: Option<&Bars>, notice: &Notice) {
    let (event, line) = describe(notice);
    let item = current_item().map(|item| format!("{}: ", text::plain_line(&item))).unwrap_or_default();
    let line = format!("{item}{line}");
    match (display, bars) {
        (Display::Json, _) => print_json(&event),
        (Display::Lines | Display::Background, _) => status(&line),
        (Display::Bars, Some(bars)) => bars.print_above(&line),
        (Display::Bars | Display::Quiet, _) => {}
    }
}

fn describe(notice: &Notice) -> (Value, String) {
    match notice {
        Notice::Lost { server, reason } => (
            json!({ "event": "source-lost", "server": server, "reason": reason }),
            format!("{server} failed ({reason}): continuing with the other servers"),
        ),
        Notice::Refused { server, reason } => (
            json!({ "event": "token-refused", "server": server, "reason": reason }),
            format!("{server} refused the download token, which may have expired ({reason}): requesting a new one"),
        ),
        Notice::Returned { server } => {
            (json!({ "event": "source-returned", "server": server }), format!("{server} is back"))
        }
        Notice::WrongBytes { server, chunk } => (
            json!({ "event": "wrong-bytes", "server": server, "chunk": chunk }),
            format!("{server} sent wrong bytes for chunk {chunk}: dropped it, fetching the chunk elsewhere"),
        ),
        Notice::Moved { from, chunks, silent_for } => {
            let silent_seconds = silent_for.map(|silent_for| silent_for.as_secs_f64());
            let moved = counted(*chunks, "chunk");
            (
                json!({ "event": "work-moved", "from": from, "chunks": chunks, "silent_seconds": silent_seconds }),
                match silent_seconds {
                    Some(seconds) => {
                        format!("{from} has sent nothing for {seconds:.1} s: moved {moved} to other servers")
                    }
                    None => format!("{from} is slow: moved {moved} to faster servers"),
                },
            )
        }
        Notice::TokenRenewed => (json!({ "event": "token-renewed" }), "Renewed the download token".to_owned()),
        Notice::Slow { sources, without_chunk } => {
            let slow = sources.iter().map(|slow| format!("{} sends {}", slow.server, text::rate(slow.rate)));
            let events = sources.iter().map(|slow| json!({ "server": slow.server, "bytes_per_second": slow.rate }));
            let (slow, seconds) = (slow.collect::<Vec<_>>().join(", "), without_chunk.as_secs());
            (
                json!({ "event": "slow", "sources": events.collect::<Vec<_>>(), "seconds_without_chunk": seconds }),
                format!("Slow: {slow}; no chunk is complete for {seconds} s; continuing while bytes arrive"),
            )
        }
        Notice::Waiting { lost: None } => {
            (json!({ "event": "waiting" }), "No server is left: waiting for one to come back".to_owned())
        }
        Notice::Waiting { lost: Some(lost) } => {
            (json!({ "event": "waiting", "reason": lost }), format!("Waiting for another server: {lost}"))
        }
    }
}
