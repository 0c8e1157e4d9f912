//! The decision about a replica that is to be fetched: records may have changed since it was queued.

/// Records and decisions about a replica whose blob was just found or created.
#[derive(Debug, Clone, Copy)]
pub(super) struct ReplicaStanding {
    /// Set if an event said that the file was deleted, or is not wanted here any more.
    pub(super) is_dropped: bool,
    pub(super) is_complete: bool,
    /// Set if the file is assigned, or under repair.
    pub(super) is_wanted: bool,
}

/// Next step with a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NextStep {
    /// A decision taken while the blob was being created must not be undone by it.
    Remove,
    Keep,
    /// The file is not to be fetched, and no event decided about its chunks: the info-server is asked.
    Reconcile,
    Fetch,
}

impl ReplicaStanding {
    /// Returns the next step. Bytes go only after an explicit decision, never because a row is absent.
    pub(super) const fn next_step(self) -> NextStep {
        match self {
            Self { is_dropped: true, .. } => NextStep::Remove,
            Self { is_complete: true, .. } => NextStep::Keep,
            Self { is_wanted: false, .. } => NextStep::Reconcile,
            Self { is_wanted: true, .. } => NextStep::Fetch,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_is_removed_after_a_decision_and_not_for_the_lack_of_a_row() {
        let absent = ReplicaStanding { is_dropped: false, is_complete: true, is_wanted: false };
        assert_eq!(absent.next_step(), NextStep::Keep, "an upload completed it and ended its repair");
        assert_eq!(ReplicaStanding { is_complete: false, ..absent }.next_step(), NextStep::Reconcile);
        assert_eq!(ReplicaStanding { is_dropped: true, ..absent }.next_step(), NextStep::Remove);
        let wanted = ReplicaStanding { is_complete: false, is_wanted: true, ..absent };
        assert_eq!(wanted.next_step(), NextStep::Fetch);
        assert_eq!(ReplicaStanding { is_dropped: true, ..wanted }.next_step(), NextStep::Remove);
    }
}
