//! The commit of decisions: one transaction for the rows of the jobs and for the effects.

use serde_json::json;
use wire::{
    ChunkSet, Digest, FileId, Zone,
    catalogue::{FileState, Policy},
    event::{EventPayload, Stream},
};

use super::{
    context::JobsContext,
    coordinator::{Coordinator, Decided},
    live_servers::live_servers,
    model::{effect::Effect, job::Job, moment::Moment, record::RetentionStage},
    store,
};
use crate::{
    accounts::{
        audit::{AuditEntry, AuditKind},
        store::audit,
    },
    catalogue::{
        self,
        file::{Content, File},
    },
    db::Write,
    events::outbox,
    replication::{
        placement::{self, PlacementRequest},
        removal,
        store::assignments,
    },
};

/// Stores the decisions, and commits their effects.
pub(super) async fn commit(
    context: &JobsContext,
    coordinator: &mut Coordinator,
    decided: &[Decided],
    now: Moment,
) -> anyhow::Result<()> {
    let (mut newest, mut entries, mut stages) = (0, Vec::new(), Vec::new());
    let mut write = context.db.write().await?;
    for Decided { job: id, changes, effects } in decided {
        // The file's row and the job's name each other: the job comes first.
        if let Some(changes) = changes {
            store::save(&mut write, changes).await?;
        }
        for effect in effects {
            if let Effect::Audit(entry) = effect {
                entries.push(entry.clone());
            } else if matches!(effect, Effect::Forget) {
                store::forget(&mut write, *id).await?;
            } else if let Some(job) = coordinator.job(*id) {
                let mut commit = EffectCommit { context, job, write: &mut write, now };
                let Committed { seq, entry, stage } = commit.apply(effect).await?;
                newest = seq.unwrap_or(0).max(newest);
                entries.extend(entry);
                stages.extend(stage.map(|stage| (*id, stage)));
            }
        }
    }
    if !entries.is_empty() {
        audit::record(&mut write, &entries, now.wall).await?;
    }
    write.commit().await?;
    context.log.announce(newest);
    for (id, stage) in stages {
        if let Some(job) = coordinator.job_mut(id) {
            job.note_retention_stage(stage);
        }
    }
    Ok(())
}

/// The result of one effect.
#[derive(Default)]
struct Committed {
    /// The newest event.
    seq: Option<u64>,
    entry: Option<AuditEntry>,
    /// The stage that a kept result has reached; it is stored with the next commit.
    stage: Option<RetentionStage>,
}

impl Committed {
    fn event(seq: Option<u64>) -> Self {
        Self { seq, ..Self::default() }
    }
}

/// The effects of one job, in a transaction.
struct EffectCommit<'a> {
    context: &'a JobsContext,
    job: &'a Job,
    write: &'a mut Write,
    now: Moment,
}

impl EffectCommit<'_> {
    async fn apply(&mut self, effect: &Effect) -> anyhow::Result<Committed> {
        match effect {
            Effect::AddFile => {
                self.add_file().await?;
                Ok(Committed::default())
            }
            Effect::RemoveFile(file) => {
                Ok(Committed::event(removal::remove_file(self.write, *file, self.now.wall).await?))
            }
            Effect::HintWorkers => Ok(Committed::event(self.hint_workers().await?)),
            Effect::ExcludeFaulty(server) => {
                let entry = AuditEntry::new(AuditKind::FaultyWorkerExcluded)
                    .about(server)
                    .with(json!({ "job": self.job.id() }));
                let seq = match self.file() {
                    Some(file) => Some(assignments::release(self.write, file, server, self.now.wall).await?),
                    None => None,
                };
                Ok(Committed { seq, entry: Some(entry), stage: None })
            }
            Effect::AssignReplicas => self.assign_replicas().await,
            Effect::Publish { sha256, digests } => Ok(Committed::event(self.publish(*sha256, digests).await?)),
            Effect::ReleaseWorkers => self.release_workers().await,
            Effect::ProbeOrigin | Effect::Arbitrate(_) | Effect::Audit(_) | Effect::Forget => Ok(Committed::default()),
        }
    }

    fn file(&self) -> Option<FileId> {
        self.job.record().content.as_ref().map(|content| content.file)
    }

    fn policy(&self) -> Policy {
        let defaults = &self.context.replication;
        let zones = self.job.record().zones.clone();
        let zones = zones.or_else(|| (!defaults.default_zones.is_empty()).then(|| defaults.default_zones.clone()));
        Policy { replicas: Some(defaults.default_replicas), zones, through: None }
    }

    async fn add_file(&mut self) -> anyhow::Result<()> {
        let record = self.job.record();
        let Some((content, layout)) = record.content.as_ref().and_then(|it| Some((it, it.layout()?))) else {
            return Ok(());
        };
        let file = File {
            id: content.file,
            name: record.name.clone(),
            layout,
            media_type: None,
            state: FileState::Uploading,
            quorum: 1,
            owner: record.owner,
            created_at: self.now.wall,
            content: None,
            job: Some(record.id),
            lost_chunks: ChunkSet::new(),
        };
        catalogue::store::add(self.write, &file, &self.policy()).await?;
        let (id, url, size_bytes) = (record.id, &record.url, content.size);
        tracing::info!(job = %id, file = %content.file, %url, size_bytes, "Job {id} started");
        Ok(())
    }

    /// Appends a hint for every zone that may work on the job, also those whose servers are away; returns the newest one's number.
    async fn hint_workers(&mut self) -> anyhow::Result<Option<u64>> {
        let live = live_servers(&self.context.fleet);
        let mut zones: Vec<Zone> =
            live.into_values().map(|server| server.zone).filter(|zone| self.job.admits(zone)).collect();
        zones.sort();
        zones.dedup();
        let mut newest = None;
        for zone in zones {
            let payload = EventPayload::SpansWaiting { job: self.job.id() };
            newest = Some(outbox::append(self.write, &Stream::Zone(zone), &payload, self.now.wall).await?);
        }
        Ok(newest)
    }

    async fn assign_replicas(&mut self) -> anyhow::Result<Committed> {
        let Some(content) = &self.job.record().content else { return Ok(Committed::default()) };
        let policy = self.policy();
        let request =
            PlacementRequest { file: content.file, size: content.size, policy: &policy, quorum: 1, publisher: None };
        let Ok(servers) = placement::targets(&request, &self.context.fleet.live()) else {
            let id = self.job.id();
            tracing::warn!(job = %id, "No file server has room for the result of job {id}, which is to be kept");
            return Ok(Committed::default());
        };
        let mut seq = None;
        for server in servers {
            seq = Some(assignments::assign(self.write, content.file, &server.id, self.now.wall).await?);
        }
        Ok(Committed { seq, stage: Some(RetentionStage::Assigned), entry: None })
    }

    async fn publish(&mut self, sha256: Digest, digests: &[Digest]) -> anyhow::Result<Option<u64>> {
        let Some(file) = self.file() else { return Ok(None) };
        let content = Content { sha256, root: Digest::root_of(digests) };
        if !catalogue::store::publish(self.write, file, content, digests).await? {
            return Ok(None);
        }
        let id = self.job.id();
        tracing::info!(job = %id, %file, "The result of job {id} is published as file {file}");
        self.context.planner.push(file);
        Ok(Some(assignments::assign_incomplete(self.write, file, self.now.wall).await?))
    }

    /// Releases the workers that are no replicas, once the replicas are complete.
    async fn release_workers(&mut self) -> anyhow::Result<Committed> {
        let Some(file) = self.file() else { return Ok(Committed::default()) };
        let Some(replicas) = assignments::complete_assignees(self.write, file).await? else {
            return Ok(Committed::default());
        };
        let mut seq = None;
        for (_, worker) in self.job.workers().iter() {
            if !replicas.contains(&worker.server) {
                seq = Some(assignments::release(self.write, file, &worker.server, self.now.wall).await?);
            }
        }
        Ok(Committed { seq, stage: Some(RetentionStage::Released), entry: None })
    }
}
