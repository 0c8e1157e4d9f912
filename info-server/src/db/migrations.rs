//! The schema's migrations, embedded in the program.

use database::migrations::{self, Embedded};
use sqlx::migrate::Migrator;

/// All files of `migrations/info-server`, in ascending order.
const EMBEDDED_MIGRATIONS: [Embedded; 15] = database::embedded![
    "info-server":
    "0001_initial",
    "0002_replication",
    "0003_accounts",
    "0004_audit",
    "0010_deletions",
    "0020_replica_sha256",
    "0030_jobs",
    "0040_scale",
    "0041_unknown_files",
    "0042_askers",
    "0043_disputes",
    "0044_idempotency",
    "0045_content",
    "0046_lost_chunks",
    "0047_dropped_chunks",
];

/// Returns the migrations up to the newest schema of this build.
pub(crate) fn migrator() -> Migrator {
    migrations::migrator(&EMBEDDED_MIGRATIONS)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn every_file_of_the_folder_is_embedded_in_ascending_order() {
        let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../migrations/info-server"));
        assert_eq!(
            EMBEDDED_MIGRATIONS.map(|migration| migration.name).as_slice(),
            migrations::names_in(folder).unwrap()
        );
    }
}
