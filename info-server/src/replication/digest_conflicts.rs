//! Holders whose SHA-256 of a whole file is another than its publisher's.

use lifecycle::fault_log::FaultLog;
use wire::{FileId, catalogue::DigestConflict};

use crate::db::{self, Database};

static CONFLICTS: FaultLog =
    FaultLog::new("Another SHA-256 of a whole file than its publisher's; its metalink omits the digest");

/// Logs the holders of a file's very chunks that computed another SHA-256 of the whole than its publisher: the chunks are right, the
/// digest that users are given of the whole is not. The table of replicas keeps what each holder found.
pub(crate) async fn log(db: &Database, file: FileId) -> db::Result<()> {
    for DigestConflict { server, sha256 } in db.digest_conflicts(file).await? {
        CONFLICTS.failed(format_args!("file {file}: {server} computed {sha256}"));
    }
    Ok(())
}
