#![doc = include_str!("jobs/README.md")]

pub(crate) mod actor;
mod background;
mod commit;
pub(crate) mod context;
pub(crate) mod coordinator;
pub(crate) mod handle;
pub(crate) mod job_file;
pub(crate) mod limiter;
pub(crate) mod live_servers;
pub(crate) mod model;
#[cfg(test)]
mod model_check;
mod origin_budget;
pub(crate) mod origin_probe;
mod scheduler;
pub(crate) mod store;
