//! Carries decisions out: one transaction for the jobs and for what follows from them.

use serde_json::json;
use wire::{
    Digest, FileId, JobId, Zone,
    catalog::{FileState, Policy},
    event::{Fact, Stream},
};

use super::{
    board::Board,
    driver::live,
    effects::Effect,
    job::{Job, Moment},
    row::{Saved, Shelf},
};
use crate::{
    app::State,
    placement::{self, Wish},
    store::{
        Write, assignments,
        audit::{self, Deed, Kind},
        files::{self, Content, File},
        jobs, outbox,
    },
};

/// A job, what is to be stored of it, and what follows.
pub(super) type Taken = (JobId, Option<Saved>, Vec<Effect>);

/// Stores all of it.
pub(super) async fn out(state: &State, board: &mut Board, taken: &[Taken], now: Moment) -> anyhow::Result<()> {
    let (mut newest, mut deeds, mut shelves) = (0, Vec::new(), Vec::new());
    let mut write = state.store.write().await?;
    for (id, saved, effects) in taken {
        // The file's row and the job's name each other: the job comes first.
        if let Some(saved) = saved {
            jobs::save(&mut write, saved).await?;
        }
        for effect in effects {
            if let Effect::Record(deed) = effect {
                deeds.push(deed.clone());
            } else if matches!(effect, Effect::Forget) {
                jobs::forget(&mut write, *id).await?;
            } else if let Some(job) = board.jobs.get(id) {
                let mut carrying = Carrying { state, job, write: &mut write, now };
                let Done { seq, deed, shelf } = carrying.carry(effect).await?;
                newest = seq.unwrap_or(0).max(newest);
                deeds.extend(deed);
                shelves.extend(shelf.map(|shelf| (*id, shelf)));
            }
        }
    }
    if !deeds.is_empty() {
        audit::record(&mut write, &deeds, now.wall).await?;
    }
    write.commit().await?;
    state.log.committed(newest);
    for (id, shelf) in shelves {
        if let Some(job) = board.jobs.get_mut(&id) {
            job.change_row(|row| row.shelf = shelf);
        }
    }
    Ok(())
}

#[derive(Default)]
struct Done {
    /// The newest event.
    seq: Option<u64>,
    deed: Option<Deed>,
    /// How far a kept result has come, to be noted with the next change.
    shelf: Option<Shelf>,
}

struct Carrying<'a> {
    state: &'a State,
    job: &'a Job,
    write: &'a mut Write,
    now: Moment,
}

impl Carrying<'_> {
    async fn carry(&mut self, effect: &Effect) -> anyhow::Result<Done> {
        let seq = match effect {
            Effect::AddFile => {
                self.add_file().await?;
                None
            }
            Effect::RemoveFile(file) => files::remove(self.write, *file, self.now.wall).await?,
            Effect::Hint => self.hint().await?,
            Effect::Convict(server) => {
                let deed = Deed::new(Kind::WorkerConvicted).about(server).with(json!({ "job": self.job.id() }));
                let seq = match self.file() {
                    Some(file) => Some(assignments::release(self.write, file, server, self.now.wall).await?),
                    None => None,
                };
                return Ok(Done { seq, deed: Some(deed), shelf: None });
            }
            Effect::Assign => return self.assign().await,
            Effect::Publish(sha256, digests) => self.publish(*sha256, digests).await?,
            Effect::Tidy => return self.tidy().await,
            Effect::Probe | Effect::Judge(_) | Effect::Record(_) | Effect::Forget => None,
        };
        Ok(Done { seq, ..Done::default() })
    }

    fn file(&self) -> Option<FileId> {
        self.job.row.content.as_ref().map(|content| content.file)
    }

    fn policy(&self) -> Policy {
        let defaults = &self.state.config.replication;
        let zones = self.job.row.zones.clone();
        let zones = zones.or_else(|| (!defaults.default_zones.is_empty()).then(|| defaults.default_zones.clone()));
        Policy { replicas: Some(defaults.default_replicas), zones, through: None }
    }

    async fn add_file(&mut self) -> anyhow::Result<()> {
        let row = &self.job.row;
        let Some((content, layout)) = row.content.as_ref().and_then(|it| Some((it, it.layout()?))) else {
            return Ok(());
        };
        let file = File {
            id: content.file,
            name: row.name.clone(),
            layout,
            media_type: None,
            state: FileState::Uploading,
            quorum: 1,
            owner: row.owner,
            created_at: self.now.wall,
            content: None,
            job: Some(row.id),
        };
        files::add(self.write, &file, &self.policy()).await?;
        let size_bytes = content.size;
        tracing::info!(job = %row.id, file = %content.file, url = %row.url, size_bytes, "a job begins");
        Ok(())
    }

    /// Tells every zone that may work on it, also those whose servers are away: the newest one counts.
    async fn hint(&mut self) -> anyhow::Result<Option<u64>> {
        let mut zones: Vec<Zone> =
            live(self.state).into_values().map(|alive| alive.zone).filter(|zone| self.job.admits(zone)).collect();
        zones.sort();
        zones.dedup();
        let mut newest = None;
        for zone in zones {
            let fact = Fact::SpansWaiting { job: self.job.id() };
            newest = Some(outbox::append(self.write, &Stream::Zone(zone), &fact, self.now.wall).await?);
        }
        Ok(newest)
    }

    async fn assign(&mut self) -> anyhow::Result<Done> {
        let Some(content) = &self.job.row.content else { return Ok(Done::default()) };
        let policy = self.policy();
        let wish = Wish { file: content.file, size: content.size, policy: &policy, quorum: 1, publisher: None };
        let Ok(servers) = placement::targets(&wish, &self.state.live()) else {
            tracing::warn!(job = %self.job.id(), "no file server has room for a result that is to be kept");
            return Ok(Done::default());
        };
        let mut seq = None;
        for server in servers {
            seq = Some(assignments::assign(self.write, content.file, &server.id, self.now.wall).await?);
        }
        Ok(Done { seq, shelf: Some(Shelf::Assigned), deed: None })
    }

    async fn publish(&mut self, sha256: Digest, digests: &[Digest]) -> anyhow::Result<Option<u64>> {
        let Some(file) = self.file() else { return Ok(None) };
        let content = Content { sha256, root: Digest::root_of(digests) };
        if !files::publish(self.write, file, content, digests).await? {
            return Ok(None);
        }
        tracing::info!(job = %self.job.id(), %file, "a job's result stands in the catalogue");
        self.state.planner.look_at(file);
        Ok(Some(assignments::call(self.write, file, self.now.wall).await?))
    }

    /// Once those who are to hold it do, the others drop what they fetched.
    async fn tidy(&mut self) -> anyhow::Result<Done> {
        let Some(file) = self.file() else { return Ok(Done::default()) };
        let Some(wanted) = assignments::wanted_and_complete(self.write, file).await? else {
            return Ok(Done::default());
        };
        let mut seq = None;
        for worker in &self.job.workers {
            if !wanted.contains(&worker.server) {
                seq = Some(assignments::release(self.write, file, &worker.server, self.now.wall).await?);
            }
        }
        Ok(Done { seq, shelf: Some(Shelf::Tidied), deed: None })
    }
}
