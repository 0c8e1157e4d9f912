//! Lines about a job and its workers.

use wire::{
    grammar::counted,
    job::{JobInfo, WorkerInfo, WorkerState},
};

use crate::text;

/// Describes the progress of all workers together.
pub(super) fn fetched(job: &JobInfo) -> String {
    let (state, origin) = (job.state.as_str(), job.url.origin());
    if job.chunks == 0 {
        return state.to_owned();
    }
    format!("{state}: {} of {} fetched from {origin}", job.fetched, counted(job.chunks, "chunk"))
}

/// Describes all workers in one line.
pub(super) fn workers(job: &JobInfo) -> String {
    let each = job.workers.iter();
    let each = each.map(|at| format!("{} {} {}", at.server, text::rate(at.rate), activity(at.state)));
    let each: Vec<String> = each.collect();
    if each.is_empty() { fetched(job) } else { format!("{} [{}]", fetched(job), each.join("; ")) }
}

/// Describes one worker.
pub(crate) fn worker(worker: &WorkerInfo) -> String {
    worker_with(worker, &counted(worker.chunks, "chunk"))
}

/// Describes one worker, with `detail` beside its activity.
pub(super) fn worker_with(worker: &WorkerInfo, detail: &str) -> String {
    let (bytes, rate) = (text::size(worker.bytes), text::rate(worker.rate));
    let (server, zone, activity) = (&worker.server, &worker.zone, activity(worker.state));
    format!("{server:<18} {zone:<10} {bytes:>10} {rate:>12}  {activity}, {detail}")
}

pub(super) const fn activity(state: WorkerState) -> &'static str {
    match state {
        WorkerState::Fetching => "fetching",
        WorkerState::Waiting => "waiting",
        WorkerState::Gone => "gone",
        WorkerState::Excluded => "excluded",
    }
}
