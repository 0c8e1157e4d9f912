//! F43: databases of every earlier schema, with rows in them, are brought up to date and mean what they meant.
//!
//! `migrations/rows/file-server/<version>.sql` holds what a build of that schema could have written on top of the rows before. A
//! migration that is released brings its own; those of older ones never change.

use std::{borrow::Cow, path::Path};

use jiff::Timestamp;
use sqlx::{ConnectOptions as _, Connection as _, migrate::Migrator, sqlite::SqliteConnectOptions};
use wire::{Digest, FileId, event::Stream};

use super::{MIGRATIONS, Standing, Store};

/// The newest migrations may come before their rows; these must not lose theirs.
const RECORDED: [i64; 3] = [1, 2, 10];

fn rows(version: i64) -> Option<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../migrations/rows/file-server");
    let rows = std::fs::read_to_string(folder.join(format!("{version:04}.sql"))).ok();
    assert!(rows.is_some() || !RECORDED.contains(&version), "the rows of schema {version} are gone");
    rows
}

/// A database as a build wrote it whose newest migration was `newest`.
async fn make(path: &Path, newest: i64) {
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(true);
    let mut connection = options.connect().await.unwrap();
    for last in MIGRATIONS.iter().map(|migration| migration.version).filter(|version| *version <= newest) {
        let known = MIGRATIONS.iter().filter(|migration| migration.version <= last).cloned().collect();
        let migrator = Migrator { migrations: Cow::Owned(known), ..Migrator::DEFAULT };
        migrator.run(&mut connection).await.unwrap();
        if let Some(rows) = rows(last) {
            sqlx::raw_sql(sqlx::AssertSqlSafe(rows)).execute(&mut connection).await.unwrap();
        }
    }
    connection.close().await.unwrap();
}

#[tokio::test]
async fn databases_of_every_earlier_schema_are_brought_up_to_date_with_all_they_hold() {
    for newest in MIGRATIONS.iter().map(|migration| migration.version) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file-server.db");
        make(&path, newest).await;
        let store = Store::open(&path).await.unwrap();
        check(&store, newest).await;
        store.close().await;
    }
}

async fn check(store: &Store, newest: i64) {
    let id = |text: &str| text.parse::<FileId>().unwrap();
    let (whole, partly, deleted) = (
        id("01890a5d-ac96-774b-bcce-b302099a8057"),
        id("01890a5d-ac96-774b-bcce-b302099a8058"),
        id("01890a5d-ac96-774b-bcce-b302099a8059"),
    );
    let file = store.file(whole).await.unwrap().unwrap();
    assert!(file.root.is_some() && file.sha256.is_some() && file.runs.len() == 2, "schema {newest}: {file:?}");
    let file = store.file(partly).await.unwrap().unwrap();
    assert!(file.root.is_none() && file.runs.len() == 1, "schema {newest}: {file:?}");
    assert_eq!(store.digests(whole).await.unwrap().len(), 2, "schema {newest}");
    let cursors = store.cursors().await.unwrap();
    assert_eq!((cursors.of(&Stream::All), cursors.epoch.is_some()), (5, true), "schema {newest}");
    let reports = store.pending_reports(9).await.unwrap();
    assert!(reports.iter().any(|report| report.file == partly && report.counter == 9), "schema {newest}: {reports:?}");
    let token = |last: u8| Digest::try_from([&[0xee][..], &[0; 30], &[last]].concat().as_slice()).unwrap();
    assert!(matches!(store.token(token(1)).await.unwrap(), Some(Standing::Granted(_))), "schema {newest}");
    assert!(matches!(store.token(token(2)).await.unwrap(), Some(Standing::Revoked)), "schema {newest}");
    assert!(store.is_unwanted(deleted).await.unwrap(), "schema {newest}");
    assert_eq!(store.high_water().await.unwrap(), Some(Timestamp::from_millisecond(1_764_000_000_000).unwrap()));
    assert_eq!(store.unknown_files().await.unwrap(), u64::from(newest >= 10), "schema {newest}");
}
