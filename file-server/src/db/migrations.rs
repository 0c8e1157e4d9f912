//! The schema's migrations, embedded in the program.

use database::migrations::{self, Embedded};
use sqlx::migrate::Migrator;

/// All files of `migrations/file-server`, in ascending order.
const EMBEDDED_MIGRATIONS: [Embedded; 4] = database::embedded![
    "file-server":
    "0001_initial",
    "0002_replication",
    "0010_reconcile",
    "0020_fetched",
];

/// Returns the migrations up to the newest schema of this build.
pub(super) fn migrator() -> Migrator {
    migrations::migrator(&EMBEDDED_MIGRATIONS)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn every_file_of_the_folder_is_embedded_in_ascending_order() {
        let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../migrations/file-server"));
        assert_eq!(
            EMBEDDED_MIGRATIONS.map(|migration| migration.name).as_slice(),
            migrations::names_in(folder).unwrap()
        );
    }
}
