//! Asks the info-server about files that are held here, whenever its facts alone cannot tell: after a present state instead
//! of the log, in another life of the catalogue, and when it refuses a report because it knows no such file.
//!
//! What is in question is in the database, so that no question is lost. A file is dropped only when the catalogue remembers
//! that it was deleted or is wanted here no more; one that it does not know stays on disk and is not served, for as long as
//! the operator does not decide otherwise.

use std::{sync::Arc, time::Duration};

use lifecycle::Shutdown;
use wire::server::{MAX_RECONCILE, Reconcile};

use crate::{info::InfoError, server::Server, store::StoreError};

/// After a question was not answered: the first pause and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(5));

#[derive(Debug, thiserror::Error)]
enum ReconcileError {
    #[error(transparent)]
    Info(#[from] InfoError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Asks until `shutdown`.
pub(crate) async fn keep_reconciling(server: Arc<Server>, shutdown: Shutdown) -> anyhow::Result<()> {
    let finishing = shutdown.finishing();
    let mut pause = PAUSES.0;
    while !finishing.is_cancelled() {
        let round = async {
            server.registration().await;
            round(&server).await
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
                tracing::debug!(%error, "the info-server could not be asked about files; trying again");
                pause
            }
        };
        pause = if wait == pause { (pause * 2).min(PAUSES.1) } else { PAUSES.0 };
        tokio::select! {
            () = server.asking.notified(), if wait == Duration::MAX => {}
            () = tokio::time::sleep(wait) => {}
            () = finishing.cancelled() => {}
        }
    }
    Ok(())
}

enum Progress {
    /// Questions were settled; there may be more.
    Some,
    /// Questions are open that were not settled.
    None,
    /// There are no questions.
    Done,
}

async fn round(server: &Server) -> Result<Progress, ReconcileError> {
    let asked = server.store.questions(u32::try_from(MAX_RECONCILE).unwrap_or(u32::MAX)).await?;
    if asked.is_empty() {
        return Ok(Progress::Done);
    }
    let question = Reconcile { files: asked.iter().map(|question| question.file).collect() };
    let answer = server.info.reconcile(&question).await?;
    let settled = server.store.settle(&asked, &answer).await?;
    server.blobs.reconciled();
    let (deleted, unknown) = (settled.dropped.len(), settled.set_aside.len());
    tracing::info!(asked = asked.len(), deleted, unknown, "asked the info-server about files that are held here");
    if let Some(first) = settled.set_aside.first() {
        tracing::warn!(
            files = unknown,
            %first,
            "files that the catalogue does not know are kept on disk and not served: it may have been restored from \
             before their time; 'ddm-file-server unknown' lists, removes or adopts them"
        );
        server.blobs.set_aside(&settled.set_aside).await;
    }
    if !settled.dropped.is_empty() {
        server.blobs.remove(settled.dropped).await;
    }
    Ok(if settled.open < asked.len() { Progress::Some } else { Progress::None })
}
