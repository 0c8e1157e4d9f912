//! Collaborative downloads. `tests/http/jobs.rs` tests them in process.

pub(super) mod claim_lease;
pub(super) mod create_job;
pub(super) mod delete_job;
mod job_caller;
pub(super) mod list_jobs;
pub(super) mod put_job_progress;
mod refusals;
pub(super) mod report_lease;
pub(super) mod show_job;
pub(super) mod show_job_events;
