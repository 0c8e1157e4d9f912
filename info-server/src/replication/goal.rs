//! The replication goal of a file: its policy with nothing left to defaults, beside the replicas that there are.

use std::collections::BTreeMap;

use wire::{
    Digest, FileId, ServerId,
    catalogue::{FileState, Policy},
};

use crate::{
    db::Database,
    replication::{
        lost_chunks::LostChunks,
        missing_chunks::{self, KnownReplica},
        plan::{PlanInput, Replica, ReplicaTarget},
        store::assignments::ReplicaRecord,
    },
};

/// The replicas that a published file should have, and those that it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReplicationGoal {
    file: FileId,
    size: u64,
    through: Option<ServerId>,
    targets: Vec<ReplicaTarget>,
    replicas: BTreeMap<ServerId, Replica>,
    lost: LostChunks,
}

impl ReplicationGoal {
    /// Reads the goal of a file; none when the file is not published, or no longer.
    pub(crate) async fn load(db: &Database, id: FileId, default_replicas: u32) -> anyhow::Result<Option<Self>> {
        let Some(file) = db.file(id).await?.filter(|file| file.state == FileState::Available) else {
            return Ok(None);
        };
        let root = file.content.map(|content| content.root);
        let policy = db.policy(id).await?.unwrap_or_default();
        let preheats = db.preheats(id).await?;
        let replicas = db.replica_records(id).await?;
        let known = replicas.iter().map(|record| KnownReplica { record, live: false });
        let missing = root.and_then(|root| missing_chunks::missing(file.layout, root, known));
        let found = missing.map(|missing| missing.lost).unwrap_or_default();
        let lost = LostChunks { recorded: file.lost_chunks, found };
        let replicas = replicas.into_iter().map(|record| (record.server.clone(), replica_of(&record, root))).collect();
        let targets = targets(&policy, preheats, default_replicas);
        Ok(Some(Self { file: id, size: file.layout.size(), through: policy.through, targets, replicas, lost }))
    }

    /// Returns the goal under another policy.
    pub(crate) fn with_policy(self, policy: &Policy, preheats: Vec<ReplicaTarget>, default_replicas: u32) -> Self {
        Self { targets: targets(policy, preheats, default_replicas), ..self }
    }

    /// Returns the input of the plan.
    pub(crate) fn plan_input(&self) -> PlanInput<'_> {
        PlanInput {
            file: self.file,
            size: self.size,
            through: self.through.as_ref(),
            targets: &self.targets,
            replicas: &self.replicas,
        }
    }

    /// Returns the lost chunks, if those on record are not those that are lost now.
    pub(crate) fn changed_loss(&self) -> Option<LostChunks> {
        (self.lost.recorded != self.lost.found).then(|| self.lost.clone())
    }

    /// Returns the bytes in the file.
    pub(crate) const fn size(&self) -> u64 {
        self.size
    }
}

fn replica_of(record: &ReplicaRecord, root: Option<Digest>) -> Replica {
    let complete = !record.released() && root.is_some() && record.root == root;
    let begun = !record.runs.is_empty() || record.root.is_some();
    Replica { assigned: record.assigned(), complete, leaving: record.released() && begun, begun }
}

/// Returns the replicas that a policy and preheats ask for, each zone once.
fn targets(policy: &Policy, preheats: Vec<ReplicaTarget>, default: u32) -> Vec<ReplicaTarget> {
    let replicas = policy.replicas.unwrap_or(default);
    let mut targets: Vec<ReplicaTarget> = match &policy.zones {
        None => vec![ReplicaTarget { zone: None, replicas }],
        Some(zones) => zones.iter().map(|zone| ReplicaTarget { zone: Some(zone.clone()), replicas }).collect(),
    };
    for preheat in preheats {
        match targets.iter_mut().find(|target| target.zone == preheat.zone) {
            Some(target) => target.replicas = target.replicas.max(preheat.replicas),
            None => targets.push(preheat),
        }
    }
    targets
}
