//! The handles and settings of the task that owns all jobs.

use std::sync::Arc;

use lifecycle::Shutdown;

use super::handle::JobsHandle;
use crate::{
    config, db::Database, events::log::EventLog, fleet::members::Fleet, replication::planner_inbox::PlannerInbox,
};

/// The handles and settings of the task that owns all jobs.
#[derive(Debug)]
pub(crate) struct JobsContext {
    pub(crate) settings: config::Jobs,
    pub(crate) replication: config::Replication,
    pub(crate) db: Database,
    pub(crate) log: EventLog,
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) planner: Arc<PlannerInbox>,
    pub(crate) handle: Arc<JobsHandle>,
    pub(crate) shutdown: Shutdown,
}
