//! Databases of earlier schemas, for the tests that bring them up to date.

use std::{borrow::Cow, io, path::Path};

use anyhow::ensure;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, migrate::Migrator};

use crate::connection::options;

/// Rows that builds of each schema could have written on top of the rows before: `<version>.sql` in a folder.
///
/// A migration that is released brings its rows; those of older ones never change.
#[derive(Debug, Clone, Copy)]
pub struct RecordedRows {
    /// Folder of the files.
    pub folder: &'static str,
    /// Versions whose file must be there; the newest migrations may come before their rows.
    pub required: &'static [i64],
}

impl RecordedRows {
    /// Makes the database at `path` as a build wrote it whose newest migration was `newest`.
    ///
    /// # Errors
    /// When a required file is missing, or a statement fails.
    pub async fn make(&self, path: &Path, migrator: &Migrator, newest: i64) -> anyhow::Result<()> {
        let mut connection = options(path).create_if_missing(true).connect().await?;
        for last in migrator.iter().map(|migration| migration.version).filter(|version| *version <= newest) {
            let known = migrator.iter().filter(|migration| migration.version <= last).cloned().collect();
            Migrator { migrations: Cow::Owned(known), ..Migrator::DEFAULT }.run(&mut connection).await?;
            if let Some(rows) = self.of(last)? {
                sqlx::raw_sql(AssertSqlSafe(rows)).execute(&mut connection).await?;
            }
        }
        connection.close().await?;
        Ok(())
    }

    fn of(&self, version: i64) -> anyhow::Result<Option<String>> {
        match std::fs::read_to_string(Path::new(self.folder).join(format!("{version:04}.sql"))) {
            Ok(rows) => Ok(Some(rows)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                ensure!(!self.required.contains(&version), "the rows of schema {version} are gone");
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }
}
