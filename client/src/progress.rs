//! What a user sees of a running download: bars on a terminal, lines elsewhere, events with `--json`.

use std::{
    convert::Infallible,
    io::{self, IsTerminal as _},
    path::Path,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::{sync::mpsc::Receiver, time};
use transfer::{
    download::{Outcome, Report},
    progress::{Notice, Progress, Snapshot, SourceState},
};
use wire::{FileId, FileName, TraceId, catalog::FileSummary, job::JobInfo};

use crate::{
    commands::{emit, say, tell},
    shell, text,
};

mod bars;
mod far;
mod web;

use bars::Bars;
use far::Pace;
pub(crate) use web::{Line, alone, fetched, note, watch_job, worker as worker_line};

/// The file that is shown.
#[derive(Debug, Clone)]
pub struct Shown {
    /// Its id.
    pub id: FileId,
    /// Its name.
    pub name: FileName,
    /// Bytes in it.
    pub size: u64,
}

impl From<&FileSummary> for Shown {
    fn from(file: &FileSummary) -> Self {
        Self { id: file.id, name: file.name.clone(), size: file.size }
    }
}

/// How to show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Display {
    /// Bars that move, on a terminal.
    Bars,
    /// A line from time to time, in a log.
    Lines,
    /// One JSON object a line.
    Json,
    /// Only the outcome.
    Quiet,
    /// What happens, and how far it is when somebody asks: it runs beside a prompt.
    Beside,
}

impl Display {
    /// What suits the place that standard error goes to.
    pub fn choose(json: bool, quiet: bool) -> Self {
        match (json, quiet) {
            (true, _) => Self::Json,
            _ if shell::in_background() => Self::Beside,
            (false, true) => Self::Quiet,
            (false, false) if io::stderr().is_terminal() => Self::Bars,
            (false, false) => Self::Lines,
        }
    }

    const fn every(self) -> Duration {
        Duration::from_millis(match self {
            Self::Bars => 100,
            Self::Lines | Self::Json | Self::Quiet | Self::Beside => 1000,
        })
    }
}

/// Says what begins, and under which trace the servers' logs show it.
pub fn start(display: Display, file: &Shown, trace: TraceId) {
    if display == Display::Json {
        emit(&json!({
            "event": "start", "trace": trace.to_string(), "file": file.id, "name": file.name, "bytes_total": file.size,
        }));
    }
}

/// Shows a download until it is dropped, which takes the bars away.
pub async fn watch(display: Display, file: Shown, progress: Progress, notices: Receiver<Notice>) -> Infallible {
    show(display, (progress, notices), || (file.name.clone(), None)).await
}

/// Shows a download, by whatever name and whoever works on it at the moment.
async fn show(
    display: Display,
    (progress, mut notices): (Progress, Receiver<Notice>),
    look: impl Fn() -> (FileName, Option<JobInfo>),
) -> Infallible {
    let mut bars = (display == Display::Bars).then(|| Bars::new(&look().0));
    let mut ticks = time::interval(display.every());
    let mut told: Option<JobInfo> = None;
    let mut pace = Pace::default();
    let mut open = true;
    loop {
        tokio::select! {
            notice = notices.recv(), if open => match notice {
                Some(Notice::Waiting) if look().1.as_ref().is_some_and(far::comes) => {}
                Some(notice) => show_notice(display, bars.as_ref(), &notice),
                None => open = false,
            },
            _ = ticks.tick() => {
                let mut now = progress.snapshot();
                let (name, job) = look();
                if job.is_some() {
                    pace.correct(&mut now, Instant::now());
                }
                if display == Display::Json && told != job {
                    job.iter().for_each(|job| emit(&json!({ "event": "job", "job": job })));
                    told.clone_from(&job);
                }
                if now.bytes_total == 0 && job.is_none() {
                    // What is there already is still being checked: nothing to show yet.
                    continue;
                }
                match (display, &mut bars) {
                    (Display::Bars, Some(bars)) => bars.show(&name, &now, job.as_ref()),
                    (Display::Lines, _) => tell(&line(&name, &now, job.as_ref())),
                    (Display::Beside, _) => shell::note_status(line(&name, &now, job.as_ref())),
                    (Display::Json, _) if now.bytes_total > 0 => emit(&snapshot_event(&now)),
                    (Display::Bars | Display::Json | Display::Quiet, _) => {}
                }
            }
        }
    }
}

fn line(name: &FileName, now: &Snapshot, job: Option<&JobInfo>) -> String {
    let sources: Vec<String> = far::noteworthy(now, job)
        .map(|source| format!("{} {} {}", source.server, text::rate(source.rate), state(source.state)))
        .collect();
    let sources = if sources.is_empty() { String::new() } else { format!(" [{}]", sources.join("; ")) };
    let work = job.map(|job| format!("; {}", web::work(job))).unwrap_or_default();
    format!("{name}: {}{sources}{work}", far::far(now, job))
}

pub(crate) const fn state(state: SourceState) -> &'static str {
    match state {
        SourceState::Idle => "idle",
        SourceState::Active => "active",
        SourceState::Resting => "resting",
        SourceState::Dropped => "dropped",
    }
}

fn snapshot_event(now: &Snapshot) -> Value {
    let sources: Vec<Value> = now
        .sources
        .iter()
        .map(|source| {
            json!({ "server": source.server, "zone": source.zone, "bytes": source.bytes,
                    "bytes_per_second": source.rate, "state": state(source.state) })
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
        "remaining_seconds": now.remaining.map(|left| left.as_secs_f64()),
        "sources": sources,
    })
}

fn show_notice(display: Display, bars: Option<&Bars>, notice: &Notice) {
    let (event, words) = describe(notice);
    match (display, bars) {
        (Display::Json, _) => emit(&event),
        (Display::Lines | Display::Beside, _) => tell(&words),
        (Display::Bars, Some(bars)) => bars.say(&words),
        (Display::Bars | Display::Quiet, _) => {}
    }
}

fn describe(notice: &Notice) -> (Value, String) {
    match notice {
        Notice::Lost { server, reason } => (
            json!({ "event": "source-lost", "server": server, "reason": reason }),
            format!("{server} is lost ({reason}): the others take over"),
        ),
        Notice::Refused { server, reason } => (
            json!({ "event": "token-refused", "server": server, "reason": reason }),
            format!("{server} refuses the token, which was revoked or has expired ({reason}): asking for a new one"),
        ),
        Notice::Returned { server } => {
            (json!({ "event": "source-returned", "server": server }), format!("{server} is back"))
        }
        Notice::WrongBytes { server, chunk } => (
            json!({ "event": "wrong-bytes", "server": server, "chunk": chunk }),
            format!(
                "{server} sent wrong bytes for chunk {chunk}: it is not asked again, the chunk comes from elsewhere"
            ),
        ),
        Notice::Moved { from, chunks } => (
            json!({ "event": "work-moved", "from": from, "chunks": chunks }),
            format!("{chunks} chunks move from {from}, which is slow, to faster servers"),
        ),
        Notice::TokenRenewed => (json!({ "event": "token-renewed" }), "the token is renewed".to_owned()),
        Notice::Waiting => {
            (json!({ "event": "waiting" }), "no server is left: waiting for one to come back".to_owned())
        }
    }
}

/// Prints what the download did.
pub fn finish(display: Display, path: &Path, report: &Report) {
    if display == Display::Json {
        emit(&json!({ "event": "done", "path": path, "report": report }));
        return;
    }
    if display == Display::Quiet {
        say(&path.display().to_string());
        return;
    }
    let seconds = report.elapsed.as_secs_f64();
    // Shown, not reckoned with: a rate needs no more digits than a double has.
    let mean = Duration::from_secs_f64(seconds.max(0.001));
    let rate = u64::try_from(u128::from(report.fetched) * 1000 / mean.as_millis().max(1)).unwrap_or(u64::MAX);
    say(&format!(
        "{}: {} verified in {}, {}",
        path.display(),
        text::size(report.size),
        text::time(report.elapsed),
        text::rate(rate)
    ));
    if report.resumed > 0 {
        say(&format!("  {} were there already and were checked again", text::size(report.resumed)));
    }
    for source in &report.sources {
        let outcome = match &source.outcome {
            Outcome::Fine => String::new(),
            Outcome::Failing { reason } => format!("  failing: {reason}"),
            Outcome::Dropped { reason } => format!("  dropped: {reason}"),
        };
        say(&format!(
            "  {:<18} {:<10} {:>10}  {:>7}  {} requests, {} failed{outcome}",
            source.server,
            source.zone,
            text::size(source.bytes),
            text::percent(source.share_permille),
            source.requests,
            source.failures
        ));
    }
    if report.switches > 0 || report.wasted > 0 {
        say(&format!(
            "  work moved between servers {} times, {} were fetched in vain",
            report.switches,
            text::size(report.wasted)
        ));
    }
}

/// Prints that a signal ended it.
pub fn interrupted(display: Display) {
    if display == Display::Json {
        emit(&json!({ "event": "interrupted" }));
    } else {
        tell("Interrupted; the same command goes on from here.");
    }
}
