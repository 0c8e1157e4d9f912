//! Replica reports: the chunks of a file that a server says it has verified and synced.

use wire::{ChunkLayout, FileId, ServerId, grammar::counted, server::ReplicaReport};

use crate::{
    db::Database,
    error::{Result, invalid},
    replication::store::{assignments, replicas},
};

/// Refuses a report that does not fit the file's chunks.
///
/// # Errors
/// 422 for chunks that the file does not have, and for a root without all chunks.
pub(crate) fn check(report: &ReplicaReport, layout: ChunkLayout) -> Result<()> {
    let all = layout.all();
    if !report.runs.gaps(0..layout.count()).is_empty() && report.root.is_some() {
        return Err(invalid("a root without all chunks proves nothing"));
    }
    if report.runs.iter().any(|run| !all.covers(run)) {
        return Err(invalid(format!("this file has {}", counted(layout.count(), "chunk"))));
    }
    Ok(())
}

/// Stores a report; returns true if it changed which servers are complete.
pub(crate) async fn store(db: &Database, file: FileId, server: &ServerId, report: &ReplicaReport) -> Result<bool> {
    let mut write = db.write().await?;
    replicas::report(&mut write, file, server, report).await?;
    let changed = assignments::update_completeness(&mut write, file).await?;
    write.commit().await?;
    Ok(changed)
}
