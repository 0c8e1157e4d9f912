//! Migrations of a schema, embedded in the program.
//!
//! A database stores the SHA-384 of each file that was applied to it: a released file keeps its bytes.

use std::{borrow::Cow, io, path::Path};

use sqlx::{
    SqlSafeStr as _,
    migrate::{Migration, MigrationType, Migrator},
};

/// One file of a schema.
#[derive(Debug, Clone, Copy)]
pub struct Embedded {
    /// Name of the file without its ending: version, underscore, description.
    pub name: &'static str,
    /// Content of the file.
    pub sql: &'static str,
}

/// Embeds files of a folder of `migrations/`, named in ascending order and without their ending.
#[macro_export]
macro_rules! embedded {
    ($folder:literal: $($name:literal),+ $(,)?) => {
        [$($crate::migrations::Embedded {
            name: $name,
            sql: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../migrations/", $folder, "/", $name, ".sql")),
        }),+]
    };
}

/// Returns the migrator of a schema.
pub fn migrator(embedded: &[Embedded]) -> Migrator {
    let migrations = embedded.iter().map(|Embedded { name, sql }| {
        let (version, description) = name.split_once('_').unwrap_or((name, ""));
        // A file whose name has no version would be the first; the servers' tests compare names with files.
        let version = version.parse().unwrap_or_default();
        let description = Cow::Owned(description.replace('_', " "));
        Migration::new(version, description, MigrationType::Simple, sql.into_sql_str(), false)
    });
    Migrator { migrations: migrations.collect(), ..Migrator::DEFAULT }
}

/// Returns the names of the migrations in a folder, in ascending order and without their ending, for the test that compares them with
/// the embedded ones.
///
/// # Errors
/// When the folder cannot be read.
pub fn names_in(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        names.push(name.strip_suffix(".sql").map(str::to_owned).unwrap_or(name));
    }
    names.sort();
    Ok(names)
}
