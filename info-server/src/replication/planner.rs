//! Brings about what is wanted: a bounded loop that looks at the files that are not known to stand as they should.
//!
//! It is told of single files by those who change them, notices by itself which servers are gone for good or being emptied,
//! and walks the rest slowly: a catalogue that stands as it should costs one look into an empty index.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use wire::{FileId, ServerId};

use super::{
    plan::{self, Candidate, Plan},
    subject::Wanted,
};
use crate::{
    app::State,
    store::{assignments, files},
};

/// Files looked at in one go.
const PAGE: u32 = 100;
/// Files changed in one transaction: others wait for it.
const BITE: usize = 25;
/// Between two goes while nothing is to be done.
const PAUSE: Duration = Duration::from_secs(1);
/// How often the whole catalogue is compared with what its rows say, in case something was missed.
const SWEEP: Duration = Duration::from_secs(3600);
/// Files compared in one go of that.
const STRIDE: u32 = 2_000;
/// Files that may wait for a look out of turn; the others come in their turn.
const MOST: usize = 10_000;

/// Files to look at out of turn.
#[derive(Debug, Default)]
pub struct Inbox {
    files: Mutex<BTreeSet<FileId>>,
    woken: Notify,
}

impl Inbox {
    /// Asks for a look at a file soon.
    pub fn look_at(&self, file: FileId) {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if files.len() < MOST {
            files.insert(file);
        }
        drop(files);
        self.woken.notify_one();
    }

    /// Says that something changed about the servers.
    pub fn wake(&self) {
        self.woken.notify_one();
    }

    fn take(&self) -> Vec<FileId> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let taken: BTreeSet<FileId> = files.iter().take(usize::try_from(PAGE).unwrap_or(usize::MAX)).copied().collect();
        files.retain(|file| !taken.contains(file));
        taken.into_iter().collect()
    }
}

#[derive(Debug)]
struct Walk {
    /// The last file of the page before; none at the start of a round.
    after: Option<FileId>,
    /// The servers whose files were marked already: gone for good, or being emptied.
    leaving: BTreeSet<ServerId>,
    sweep: Option<FileId>,
    next_sweep: Instant,
}

/// Runs until `stop`.
pub(crate) async fn run(state: Arc<State>, stop: CancellationToken) -> anyhow::Result<()> {
    let mut walk = Walk { after: None, leaving: BTreeSet::new(), sweep: None, next_sweep: Instant::now() + SWEEP };
    let mut failing = false;
    loop {
        let Some(gone) = stop.run_until_cancelled(go(&state, &mut walk)).await else { return Ok(()) };
        let busy = match gone {
            Ok(busy) => {
                failing = false;
                busy
            }
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!("replicas cannot be planned for now: {error:#}");
                }
                false
            }
        };
        if busy {
            tokio::task::yield_now().await;
            continue;
        }
        tokio::select! {
            () = state.planner.woken.notified() => {}
            () = tokio::time::sleep(PAUSE) => {}
            () = stop.cancelled() => return Ok(()),
        }
    }
}

/// One go; whether another one should follow at once.
async fn go(state: &State, walk: &mut Walk) -> anyhow::Result<bool> {
    let mut servers = candidates(state).await?;
    mark(state, walk, &servers).await?;
    let told = state.planner.take();
    let mut changed = 0;
    for files in told.chunks(BITE) {
        changed += look(state, files, &mut servers).await?;
    }
    let page = state.store.unsettled(walk.after, PAGE).await?;
    walk.after = page.last().copied().filter(|_| u32::try_from(page.len()).is_ok_and(|count| count == PAGE));
    for files in page.chunks(BITE) {
        changed += look(state, files, &mut servers).await?;
    }
    Ok(changed > 0 || !told.is_empty())
}

/// The servers as placement sees them.
pub(crate) async fn candidates(state: &State) -> anyhow::Result<Vec<Candidate>> {
    let under_way = state.store.in_flight().await?;
    let mut servers = state.registry().candidates(state.config.replication.repair_after, Instant::now());
    for server in &mut servers {
        if let Some((replicas, bytes)) = under_way.get(&server.id) {
            server.in_flight = *replicas;
            server.room = server.room.saturating_sub(*bytes);
        }
    }
    Ok(servers)
}

/// Marks the files of servers that are gone for good, or are being emptied, once for each such server.
async fn mark(state: &State, walk: &mut Walk, servers: &[Candidate]) -> anyhow::Result<()> {
    let leaving: BTreeSet<ServerId> =
        servers.iter().filter(|server| server.lost || server.draining).map(|server| server.id.clone()).collect();
    for server in leaving.difference(&walk.leaving) {
        let mut after = None;
        loop {
            let mut write = state.store.write().await?;
            after = assignments::unsettle_of(&mut write, server, after, STRIDE).await?;
            write.commit().await?;
            if after.is_none() {
                break;
            }
        }
        tracing::info!(%server, "what it holds is to stand elsewhere too: it is being emptied, or gone for too long");
    }
    walk.leaving = leaving;
    if Instant::now() >= walk.next_sweep {
        let mut write = state.store.write().await?;
        walk.sweep = files::unsettle_doubtful(&mut write, walk.sweep, STRIDE).await?;
        write.commit().await?;
        if walk.sweep.is_none() {
            walk.next_sweep = Instant::now() + SWEEP;
        }
    }
    Ok(())
}

/// Looks at some files and changes what must be, in one transaction; how many changes there were.
async fn look(state: &State, files: &[FileId], servers: &mut [Candidate]) -> anyhow::Result<usize> {
    let mut plans = Vec::with_capacity(files.len());
    for file in files {
        if let Some(wanted) = Wanted::of(state, *file).await? {
            let plan = plan::plan(&wanted.subject(), servers);
            reserve(servers, &plan, wanted.size());
            plans.push((*file, plan));
        }
    }
    let plans: Vec<(FileId, Plan)> = plans.into_iter().filter(|(_, plan)| plan.settled || changes(plan) > 0).collect();
    if plans.is_empty() {
        return Ok(0);
    }
    let (now, mut newest, mut changed) = (Timestamp::now(), 0, 0);
    let mut write = state.store.write().await?;
    for (file, plan) in &plans {
        // It may have been removed since it was looked at.
        if !files::settle(&mut write, *file, plan.settled).await? {
            continue;
        }
        for server in &plan.assign {
            newest = assignments::assign(&mut write, *file, server, now).await?;
        }
        for server in &plan.release {
            newest = assignments::release(&mut write, *file, server, now).await?;
        }
        changed += changes(plan);
    }
    write.commit().await?;
    state.log.committed(newest);
    for (file, plan) in plans.iter().filter(|(_, plan)| changes(plan) > 0) {
        tracing::info!(%file, assigned = ?plan.assign, released = ?plan.release, "replicas are moved");
    }
    Ok(changed)
}

const fn changes(plan: &Plan) -> usize {
    plan.assign.len() + plan.release.len()
}

/// What was just decided counts for the files after it.
fn reserve(servers: &mut [Candidate], plan: &Plan, size: u64) {
    for server in servers.iter_mut().filter(|server| plan.assign.contains(&server.id)) {
        server.in_flight = server.in_flight.saturating_add(1);
        server.room = server.room.saturating_sub(size);
    }
}
