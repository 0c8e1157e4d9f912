//! Questions to the info-server about stored files whose catalogue status events alone do not settle: after a snapshot
//! instead of the log, in another epoch, and when it refuses a report because it has no such file.
//!
//! Open questions are in the database, so that none is lost. A file is dropped only when the catalogue records that it was
//! deleted or is not wanted here any more. An orphaned file, which the catalogue does not have, stays on disk and is not
//! served until the operator decides about it.

use std::{sync::Arc, time::Duration};

use info_client::InfoError;
use lifecycle::Shutdown;
use wire::server::{MAX_RECONCILE, ReconcileRequest};

use crate::{db::DatabaseError, state::AppState};

/// First and longest pause after a question that was not answered.
const MIN_RETRY_PAUSE: Duration = Duration::from_millis(500);
const MAX_RETRY_PAUSE: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
enum ReconcileError {
    #[error(transparent)]
    Info(#[from] InfoError),
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

/// Settles open questions until `shutdown`.
pub(crate) async fn run_reconciliation(state: Arc<AppState>, shutdown: Shutdown) -> anyhow::Result<()> {
    let finishing = shutdown.finishing();
    let mut pause = MIN_RETRY_PAUSE;
    while !finishing.is_cancelled() {
        let round = async {
            state.until_registered().await;
            settle_round(&state).await
        };
        let round = tokio::select! {
            round = round => round,
            () = finishing.cancelled() => break,
        };
        let wait = match round {
            Ok(Progress::Some) => Duration::ZERO,
            Ok(Progress::Done) => Duration::MAX,
            Ok(Progress::None) => pause,
            Err(error) => {
                tracing::debug!(%error, "The info-server did not answer a reconciliation request; trying again");
                pause
            }
        };
        pause = if wait == pause { (pause * 2).min(MAX_RETRY_PAUSE) } else { MIN_RETRY_PAUSE };
        tokio::select! {
            () = state.open_questions.notified(), if wait == Duration::MAX => {}
            () = tokio::time::sleep(wait) => {}
            () = finishing.cancelled() => {}
        }
    }
    Ok(())
}

enum Progress {
    /// Questions were settled; there may be more.
    Some,
    /// Questions are open, and none was settled.
    None,
    /// No question is left.
    Done,
}

/// Requests the status of the next files, and carries out the answer.
async fn settle_round(state: &AppState) -> Result<Progress, ReconcileError> {
    let asked = state.db.open_questions(u32::try_from(MAX_RECONCILE).unwrap_or(u32::MAX)).await?;
    if asked.is_empty() {
        return Ok(Progress::Done);
    }
    let question = ReconcileRequest { files: asked.iter().map(|question| question.file).collect() };
    let answer = state.info.reconcile(&question).await?;
    let settled = match state.db.settle(&asked, &answer).await {
        Err(error) if error.is_full() => {
            state.blobs.volume().release_ballast().await;
            state.db.settle(&asked, &answer).await?
        }
        settled => settled?,
    };
    state.blobs.events().notify_reconsidered();
    let (deleted, orphaned) = (settled.dropped.len(), settled.orphaned.len());
    tracing::info!(asked = asked.len(), deleted, orphaned, "Reconciled stored files with the catalogue");
    if let Some(first) = settled.orphaned.first() {
        tracing::warn!(
            files = orphaned,
            %first,
            "Orphaned files are kept on disk and not served: the catalogue does not have them, perhaps because it was restored \
             from an older backup; list, remove or adopt them with 'ddm-file-server unknown'"
        );
        state.blobs.withhold(&settled.orphaned).await;
    }
    if !settled.dropped.is_empty() {
        state.blobs.remove(settled.dropped).await;
    }
    Ok(if settled.open < asked.len() { Progress::Some } else { Progress::None })
}
