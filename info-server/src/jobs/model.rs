//! The state of one job, and every rule that changes it. Pure: the time is an argument, and what a change demands outside is returned
//! as an [`effect::Effect`].
//!
//! [`job::Job`] composes the tables; each table guards its own invariant with private fields and collects what is to be stored.

pub(crate) mod chunk_table;
pub(crate) mod effect;
pub(crate) mod job;
pub(crate) mod lease_table;
pub(crate) mod moment;
pub(crate) mod record;
pub(crate) mod requesters;
pub(crate) mod retention;
pub(crate) mod start_retry;
pub(crate) mod timers;
pub(crate) mod transfer_rate;
pub(crate) mod verifier;
pub(crate) mod worker_table;
