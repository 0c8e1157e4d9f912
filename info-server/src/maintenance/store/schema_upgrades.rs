//! F43: databases of every earlier schema, with rows in them, are brought up to date and mean what they meant.

use database::recorded::RecordedRows;
use jiff::Timestamp;
use wire::{Digest, FileId, ServerId, catalogue::FileState};

use crate::{
    catalogue::{file::CatalogueStatus, search::FileQuery},
    db::{self, Database, migrations::migrator},
};

const RECORDED_ROWS: RecordedRows = RecordedRows {
    folder: concat!(env!("CARGO_MANIFEST_DIR"), "/../migrations/rows/info-server"),
    required: &[1, 2, 3, 4, 10, 20, 40, 41],
};

#[tokio::test]
async fn databases_of_every_earlier_schema_are_brought_up_to_date_with_all_they_hold() {
    for newest in migrator().iter().map(|migration| migration.version) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("catalogue.sqlite");
        RECORDED_ROWS.make(&path, &migrator(), newest).await.unwrap();
        let store = Database::open(&path).await.unwrap();
        check(&store, newest).await;
        store.close().await;
        db::backup::check(&path).await.unwrap_or_else(|error| panic!("schema {newest}: {error:#}"));
    }
}

fn context<T, E: std::fmt::Debug>(newest: i64, result: Result<T, E>) -> T {
    result.unwrap_or_else(|error| panic!("schema {newest}: {error:?}"))
}

async fn check(store: &Database, newest: i64) {
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
        let list = context(newest, store.files(&FileQuery { part, ..FileQuery::default() }, 10).await);
        assert!(list.iter().any(|file| file.id == found), "schema {newest}: {part:?} finds {list:?}");
        assert!(list.iter().all(|file| file.state != FileState::Deleting), "schema {newest}: {list:?}");
    }
    assert!(
        context(newest, store.files(&FileQuery { part: "going", ..FileQuery::default() }, 10).await).is_empty(),
        "schema {newest}"
    );
    let counts = context(newest, store.catalogue_counts().await);
    let uploads = if newest >= 40 { 2 } else { 1 };
    assert_eq!(counts.files.map(|(_, count)| count), [uploads, 1, 1], "schema {newest}");
    assert_eq!((counts.complete, counts.partial), (1, 1), "schema {newest}");
    let servers = context(newest, store.enrolled().await);
    assert_eq!(servers.iter().map(|server| server.draining).collect::<Vec<_>>(), [false, newest >= 2]);
    let records = context(newest, store.replica_records(published).await);
    assert!(
        records.iter().any(|record| record.server == near && record.assigned() && record.root.is_some()),
        "{newest}: {records:?}"
    );
    assert!(context(newest, store.accounts(0, 9).await).iter().any(|account| account.disabled));
    let session = Digest::try_from([&[0xaa][..], &[0; 30], &[1]].concat().as_slice()).unwrap();
    assert!(context(newest, store.session_user(session, Timestamp::UNIX_EPOCH).await).is_some(), "schema {newest}");
    let token = Digest::try_from([&[0xee][..], &[0; 30], &[1]].concat().as_slice()).unwrap();
    assert_eq!(context(newest, store.grant(token, Timestamp::UNIX_EPOCH).await).unwrap().file, published);
    assert_eq!(context(newest, store.waiting(9).await).len(), 1, "schema {newest}");
    assert_eq!(context(newest, store.last_seq().await), 2);
    let status = context(newest, store.catalogue_status(&near, &[id("01890a5d-ac96-774b-bcce-b302099a8059")]).await);
    assert_eq!(status[0].1, CatalogueStatus::Unwanted, "schema {newest}");
    assert_eq!(context(newest, store.orphan_counts().await).len(), usize::from(newest >= 41));
}
