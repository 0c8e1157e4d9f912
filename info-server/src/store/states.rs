//! F43: databases of every earlier schema, with rows in them, are brought up to date and mean what they meant.
//!
//! `migrations/rows/info-server/<version>.sql` holds what a build of that schema could have written on top of the rows before. A
//! migration that is released brings its own; those of older ones never change.

use std::{borrow::Cow, path::Path};

use jiff::Timestamp;
use sqlx::{ConnectOptions as _, Connection as _, migrate::Migrator, sqlite::SqliteConnectOptions};
use wire::{Digest, FileId, ServerId, catalog::FileState};

use super::{MIGRATIONS, Store};

/// The newest migrations may come before their rows; these must not lose theirs.
const RECORDED: [i64; 8] = [1, 2, 3, 4, 10, 20, 40, 41];

fn rows(version: i64) -> Option<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../migrations/rows/info-server");
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
        let path = folder.path().join("catalogue.sqlite");
        make(&path, newest).await;
        let store = Store::open(&path).await.unwrap();
        check(&store, newest).await;
        store.close().await;
        super::backup::check(&path).await.unwrap_or_else(|error| panic!("schema {newest}: {error:#}"));
    }
}

fn context<T, E: std::fmt::Debug>(newest: i64, result: Result<T, E>) -> T {
    result.unwrap_or_else(|error| panic!("schema {newest}: {error:?}"))
}

async fn check(store: &Store, newest: i64) {
    let id = |text: &str| text.parse::<FileId>().unwrap();
    let (published, uploading) =
        (id("01890a5d-ac96-774b-bcce-b302099a8057"), id("01890a5d-ac96-774b-bcce-b302099a8058"));
    let near: ServerId = "fs-a1".parse().unwrap();
    let file = context(newest, store.file(published).await).unwrap();
    assert_eq!((file.name.as_str(), file.state, file.content.is_some()), ("Image-one.iso", FileState::Available, true));
    assert_eq!(context(newest, store.digests(published).await).unwrap().len(), 1);
    for (part, found) in
        [("", published), ("mage-on", published), ("IMAGE", published), ("ge", published), ("coming", uploading)]
    {
        let list = context(newest, store.files((part, None), None, 10).await);
        assert!(list.iter().any(|file| file.id == found), "schema {newest}: {part:?} finds {list:?}");
        assert!(list.iter().all(|file| file.state != FileState::Deleting), "schema {newest}: {list:?}");
    }
    assert!(context(newest, store.files(("going", None), None, 10).await).is_empty(), "schema {newest}");
    let census = context(newest, store.census().await);
    let uploads = if newest >= 40 { 2 } else { 1 };
    assert_eq!(census.files.map(|(_, count)| count), [uploads, 1, 1], "schema {newest}");
    assert_eq!((census.complete, census.partial), (1, 1), "schema {newest}");
    let servers = context(newest, store.enrolled().await);
    assert_eq!(servers.iter().map(|server| server.draining).collect::<Vec<_>>(), [false, newest >= 2]);
    let parts = context(newest, store.parts(published).await);
    assert!(
        parts.iter().any(|part| part.server == near && part.assigned() && part.root.is_some()),
        "{newest}: {parts:?}"
    );
    assert!(context(newest, store.accounts(0, 9).await).iter().any(|account| account.disabled));
    let session = Digest::try_from([&[0xaa][..], &[0; 30], &[1]].concat().as_slice()).unwrap();
    assert!(context(newest, store.session_user(session, Timestamp::UNIX_EPOCH).await).is_some(), "schema {newest}");
    let token = Digest::try_from([&[0xee][..], &[0; 30], &[1]].concat().as_slice()).unwrap();
    assert_eq!(context(newest, store.grant(token, Timestamp::UNIX_EPOCH).await).unwrap().file, published);
    assert_eq!(context(newest, store.waiting(9).await).len(), 1, "schema {newest}");
    assert_eq!(context(newest, store.last_seq().await), 2);
    let standing = context(newest, store.standings(&near, &[id("01890a5d-ac96-774b-bcce-b302099a8059")]).await);
    assert_eq!(standing[0].1, super::files::Standing::Unwanted, "schema {newest}");
    assert_eq!(context(newest, store.unknown_counts().await).len(), usize::from(newest >= 41));
}
