//! The planner: a task that plans the files whose replicas are not known to have converged, and carries the plans out.
//!
//! A change of a file puts it into the planner's inbox. The planner itself finds the servers that are lost or draining, and walks
//! the rest slowly: a catalogue that has converged costs one read of an empty index.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use wire::{FileId, ServerId};

use crate::{
    config,
    db::Database,
    events::log::EventLog,
    fleet::{candidate::Candidate, members::Fleet},
    replication::{
        candidates,
        goal::ReplicationGoal,
        lost_chunks::{self, LostChunks},
        plan::{self, Plan},
        planner_inbox::PlannerInbox,
        store::{self, assignments},
    },
};

/// Files planned in one round.
const MAX_FILES_PER_ROUND: u32 = 100;
/// Files changed in one transaction: others wait for it.
const TRANSACTION_BATCH_SIZE: usize = 25;
/// Time between two rounds while nothing is to be done.
const IDLE_INTERVAL: Duration = Duration::from_secs(1);
/// Time between two sweeps: walks through the whole catalogue that compare it with its rows, in case something was missed.
const SWEEP_INTERVAL: Duration = Duration::from_secs(3600);
/// Files compared in one round of a sweep, and files marked in one transaction.
const MARK_BATCH_SIZE: u32 = 2_000;

/// The planner's positions in its walks.
#[derive(Debug)]
struct Walk {
    /// The last file of the page before; none at the start of a walk.
    after: Option<FileId>,
    /// The lost and draining servers whose files were marked already.
    marked: BTreeSet<ServerId>,
    sweep_after: Option<FileId>,
    next_sweep: Instant,
}

/// The handles and settings of the planner.
#[derive(Debug)]
pub(crate) struct Planner {
    pub(crate) db: Database,
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) log: EventLog,
    pub(crate) inbox: Arc<PlannerInbox>,
    pub(crate) settings: config::Replication,
}

/// The plan of one file.
struct PlannedFile {
    file: FileId,
    /// Goal that the plan was made for.
    goal: ReplicationGoal,
    plan: Plan,
    /// Set if other chunks are lost than those on record.
    loss: Option<LostChunks>,
}

/// Runs until `stop`.
pub(crate) async fn run(planner: Planner, stop: CancellationToken) -> anyhow::Result<()> {
    let next_sweep = Instant::now() + SWEEP_INTERVAL;
    let mut walk = Walk { after: None, marked: BTreeSet::new(), sweep_after: None, next_sweep };
    let mut failing = false;
    loop {
        let Some(outcome) = stop.run_until_cancelled(round(&planner, &mut walk)).await else { return Ok(()) };
        let busy = match outcome {
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
            () = planner.inbox.woken() => {}
            () = tokio::time::sleep(IDLE_INTERVAL) => {}
            () = stop.cancelled() => return Ok(()),
        }
    }
}

/// Plans one page of files; returns true if another round should follow at once.
async fn round(planner: &Planner, walk: &mut Walk) -> anyhow::Result<bool> {
    let mut servers = candidates::load(&planner.db, &planner.fleet, planner.settings.repair_after).await?;
    mark_files_of_leaving_servers(planner, walk, &servers).await?;
    sweep(planner, walk).await?;
    let queued = planner.inbox.take(usize::try_from(MAX_FILES_PER_ROUND)?);
    let mut changed = 0;
    for files in queued.chunks(TRANSACTION_BATCH_SIZE) {
        changed += plan_files(planner, files, &mut servers).await?;
    }
    let page = planner.db.unconverged(walk.after, MAX_FILES_PER_ROUND).await?;
    let is_full = u32::try_from(page.len()).is_ok_and(|count| count == MAX_FILES_PER_ROUND);
    walk.after = page.last().copied().filter(|_| is_full);
    for files in page.chunks(TRANSACTION_BATCH_SIZE) {
        changed += plan_files(planner, files, &mut servers).await?;
    }
    Ok(changed > 0 || !queued.is_empty())
}

/// Marks the files of servers that are lost or draining, once for each such server.
async fn mark_files_of_leaving_servers(
    planner: &Planner,
    walk: &mut Walk,
    servers: &[Candidate],
) -> anyhow::Result<()> {
    let leaving: BTreeSet<ServerId> =
        servers.iter().filter(|server| server.lost || server.draining).map(|server| server.id.clone()).collect();
    for server in leaving.difference(&walk.marked) {
        let mut after = None;
        loop {
            let mut write = planner.db.write().await?;
            after = assignments::mark_unconverged(&mut write, server, after, MARK_BATCH_SIZE).await?;
            write.commit().await?;
            if after.is_none() {
                break;
            }
        }
        tracing::info!(%server, "File server {server} is draining or lost: its replicas are planned on other servers");
    }
    walk.marked = leaving;
    Ok(())
}

/// Compares the next part of the catalogue with its rows, if a sweep is due.
async fn sweep(planner: &Planner, walk: &mut Walk) -> anyhow::Result<()> {
    let now = Instant::now();
    if now >= walk.next_sweep {
        let mut write = planner.db.write().await?;
        walk.sweep_after = store::mark_incomplete(&mut write, walk.sweep_after, MARK_BATCH_SIZE).await?;
        write.commit().await?;
        if walk.sweep_after.is_none() {
            walk.next_sweep = Instant::now() + SWEEP_INTERVAL;
        }
    }
    Ok(())
}

/// Plans some files and carries the plans out; returns the number of changes.
async fn plan_files(planner: &Planner, files: &[FileId], servers: &mut [Candidate]) -> anyhow::Result<usize> {
    let plans = make_plans(planner, files, servers).await?;
    if plans.is_empty() { Ok(0) } else { carry_out(planner, &plans).await }
}

/// Returns the plans that change something.
async fn make_plans(
    planner: &Planner,
    files: &[FileId],
    servers: &mut [Candidate],
) -> anyhow::Result<Vec<PlannedFile>> {
    let mut plans = Vec::with_capacity(files.len());
    let default_replicas = planner.settings.default_replicas;
    for file in files {
        if let Some(goal) = ReplicationGoal::load(&planner.db, *file, default_replicas).await? {
            let plan = plan::plan(&goal.plan_input(), servers);
            reserve(servers, &plan, goal.size());
            plans.push(PlannedFile { file: *file, plan, loss: goal.changed_loss(), goal });
        }
    }
    plans.retain(|planned| planned.plan.converged || changes(&planned.plan) > 0 || planned.loss.is_some());
    Ok(plans)
}

/// Carries plans out in one transaction; returns the number of changes. A file that is not any more what its plan was made from is
/// skipped and planned again: a replica may have been lost, or another policy may have been set.
async fn carry_out(planner: &Planner, plans: &[PlannedFile]) -> anyhow::Result<usize> {
    let default_replicas = planner.settings.default_replicas;
    let (now, mut newest, mut changed) = (Timestamp::now(), 0, 0);
    let mut write = planner.db.write().await?;
    let mut done = Vec::with_capacity(plans.len());
    for planned @ PlannedFile { file, goal, plan, loss } in plans {
        // As long as this transaction is open, no other one changes what is read.
        if ReplicationGoal::load(&planner.db, *file, default_replicas).await?.as_ref() != Some(goal) {
            planner.inbox.push(*file);
            continue;
        }
        if !store::set_converged(&mut write, *file, plan.converged).await? {
            continue;
        }
        if let Some(loss) = loss {
            lost_chunks::record(&mut write, *file, loss, now).await?;
        }
        for server in &plan.assign {
            newest = assignments::assign(&mut write, *file, server, now).await?;
        }
        for server in &plan.release {
            newest = assignments::release(&mut write, *file, server, now).await?;
        }
        changed += changes(plan);
        done.push(planned);
    }
    write.commit().await?;
    planner.log.announce(newest);
    for PlannedFile { file, plan, loss, .. } in done {
        if changes(plan) > 0 {
            tracing::info!(%file, assigned = ?plan.assign, released = ?plan.release, "Replicas of file {file} move");
        }
        if let Some(loss) = loss {
            lost_chunks::log(*file, loss);
        }
    }
    Ok(changed)
}

const fn changes(plan: &Plan) -> usize {
    plan.assign.len() + plan.release.len()
}

/// Counts a plan's assignments for the files that are planned after it.
fn reserve(servers: &mut [Candidate], plan: &Plan, size: u64) {
    for server in servers.iter_mut().filter(|server| plan.assign.contains(&server.id)) {
        server.in_flight = server.in_flight.saturating_add(1);
        server.room = server.room.saturating_sub(size);
    }
}

#[cfg(test)]
mod tests;
