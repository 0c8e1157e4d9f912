//! The upload plan to follow: a new one, or the one of an earlier run.

use std::time::{Duration, Instant};

use info_client::{InfoError, UserClient};
use wire::{
    FileId,
    catalogue::{FileState, NewFile, UploadPlan},
    grammar::counted,
};

use super::{
    targets,
    upload_note::{EarlierUpload, UploadNote},
};
use crate::{
    context::Context,
    output::{print_json, status},
};

/// Time within which every live server sends a heartbeat to an info-server that has just started.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(5);
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Work done by an earlier run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PriorWork {
    /// None.
    Nothing,
    /// Some chunks were sent.
    Chunks,
    /// The file was committed, but the answer was lost. It may be committed again, and must not be removed.
    Commit,
}

/// Returns the plan to follow and the work that an earlier run did of it.
pub(super) async fn choose(
    context: &Context,
    info: &UserClient,
    new: &NewFile,
    note: Option<&UploadNote>,
) -> anyhow::Result<(UploadPlan, PriorWork)> {
    match note.and_then(|note| note.read(new)) {
        Some(EarlierUpload { plan, is_same_file: true }) => match prior_work(info, plan.id).await? {
            PriorWork::Nothing => {}
            PriorWork::Chunks => return resume(context, info, Announcement { new, note }, plan).await,
            PriorWork::Commit => return Ok((plan, PriorWork::Commit)),
        },
        // The file changed: the upload of its old content cannot be completed.
        Some(EarlierUpload { plan, is_same_file: false }) => abandon(info, plan.id).await,
        None => {}
    }
    Ok((Announcement { new, note }.send(info).await?, PriorWork::Nothing))
}

/// File to announce, and the note to store its plan in.
#[derive(Clone, Copy)]
struct Announcement<'a> {
    new: &'a NewFile,
    note: Option<&'a UploadNote>,
}

impl Announcement<'_> {
    async fn send(self, info: &UserClient) -> Result<UploadPlan, InfoError> {
        let plan = info.announce(self.new).await?;
        if let Some(Err(error)) = self.note.map(|note| note.store(self.new, &plan)) {
            tracing::warn!("cannot store the state of the upload, so that it will not be resumable: {error}");
        }
        Ok(plan)
    }
}

/// Returns the earlier plan, unless too few of its servers live and others can take their place.
async fn resume(
    context: &Context,
    info: &UserClient,
    announcement: Announcement<'_>,
    plan: UploadPlan,
) -> anyhow::Result<(UploadPlan, PriorWork)> {
    let live = wait_for_live_targets(info, &plan).await?;
    if live >= plan.quorum {
        return Ok((plan, PriorWork::Chunks));
    }
    let new_plan = match announcement.send(info).await {
        // No others can: those that are away may come back.
        Err(error) if error.status() == Some(409) => return Ok((plan, PriorWork::Chunks)),
        announced => announced?,
    };
    let quorum = plan.quorum;
    if context.common.json {
        print_json(&serde_json::json!({
            "event": "begun-anew", "file": new_plan.id, "given_up": plan.id, "live": live, "quorum": quorum,
        }));
    } else {
        let name = &announcement.new.name;
        let needed = counted(quorum, "live server");
        status(&format!("Starting the upload of {name} over: it needs {needed} and has {live}"));
    }
    abandon(info, plan.id).await;
    Ok((new_plan, PriorWork::Nothing))
}

/// Returns the number of live targets. A target that has sent no heartbeat since the info-server started gets time to do so.
async fn wait_for_live_targets(info: &UserClient, plan: &UploadPlan) -> Result<u32, InfoError> {
    let began = Instant::now();
    loop {
        let live = targets::count_live(plan, &info.servers().await?.servers);
        if live >= plan.quorum || began.elapsed() >= HEARTBEAT_TIMEOUT {
            return Ok(live);
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// Returns the work of an earlier run, as far as the info-server still has it: it removes an upload whose token has expired.
async fn prior_work(info: &UserClient, file: FileId) -> Result<PriorWork, InfoError> {
    match info.file(file, None, false).await.map(|details| details.summary.state) {
        Ok(FileState::Uploading) => Ok(PriorWork::Chunks),
        Ok(FileState::Available) => Ok(PriorWork::Commit),
        Ok(FileState::Deleting) => Ok(PriorWork::Nothing),
        Err(error) if error.status() == Some(404) => Ok(PriorWork::Nothing),
        Err(error) => Err(error),
    }
}

/// Removes an upload that will not be completed. Otherwise the info-server removes it when its upload token expires. A file whose
/// commit succeeded without an answer is published, and stays.
pub(super) async fn abandon(info: &UserClient, file: FileId) {
    // Info-servers of earlier versions ignore the condition of the removal.
    let removed = match prior_work(info, file).await {
        Ok(PriorWork::Nothing) => Ok(()),
        Ok(PriorWork::Chunks) => info.remove_upload(file).await,
        Ok(PriorWork::Commit) => return report_published(file),
        Err(error) => Err(error),
    };
    match removed {
        Ok(()) => {}
        Err(error) if error.status() == Some(404) => {}
        Err(error) if error.status() == Some(409) => report_published(file),
        Err(error) => tracing::warn!(%file, "cannot remove the incomplete upload of {file}: {error}"),
    }
}

fn report_published(file: FileId) {
    status(&format!("An earlier run published this path as {file}; remove that file if you do not need it."));
}
