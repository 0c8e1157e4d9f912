//! Progress of downloads: bars on a terminal, lines elsewhere, events with `--json`.

mod bars;
mod display;
mod job_lines;
mod line_gate;
mod remote_display;
mod result;
mod summary;
mod transfer_progress;
mod watch;

pub use self::{
    display::{Display, ShownFile},
    result::{finish, start},
    watch::{ProgressFeed, watch},
};
pub(crate) use self::{
    job_lines::worker as worker_line,
    remote_display::RemoteDisplay,
    result::{Reached, finish_url, interrupted, note, show_direct_reason},
    transfer_progress::{Direction, TransferProgress, watch_bytes},
    watch::watch_job,
};
