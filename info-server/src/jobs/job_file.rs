//! The files that jobs make, as the catalogue shows them.

use std::time::Instant;

use wire::catalogue::FileState;

use crate::{
    catalogue::file::File,
    db::Database,
    error::Result,
    fleet::members::Fleet,
    jobs::handle::JobsHandle,
    replication::replica_map::{JobFile, ReplicaMap},
};

/// Loads the replica map of a file, also of one that a job is making.
///
/// # Errors
/// The database's, and those of the task that owns the jobs.
pub(crate) async fn replica_map(jobs: &JobsHandle, db: &Database, fleet: &Fleet, file: &File) -> Result<ReplicaMap> {
    let mut map = ReplicaMap::load(db, fleet, file.id, file.content.map(|content| content.root)).await?;
    let Some(job) = file.job.filter(|_| file.state == FileState::Uploading) else { return Ok(map) };
    if let Some(view) = jobs.file_view(job).await? {
        let job_file = JobFile { digests: view.digests, held: view.held, zones: view.zones };
        map.add_job_file(job_file, &fleet.registry(), Instant::now());
    }
    Ok(map)
}
