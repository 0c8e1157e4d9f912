//! Spans of URLs, fetched from their origins for jobs, lease by lease.

pub(crate) mod fetcher;
pub(crate) mod hints;
mod job_worker;
mod lease_target;
mod lease_worker;
mod origin_connection;
mod span_queue;
