//! F43: databases of every earlier schema, with rows in them, are brought up to date and mean what they meant.

use database::recorded::RecordedRows;
use jiff::Timestamp;
use wire::{Digest, FileId, event::Stream};

use super::{Database, migrations::migrator, tokens::TokenStatus};

const RECORDED_ROWS: RecordedRows = RecordedRows {
    folder: concat!(env!("CARGO_MANIFEST_DIR"), "/../migrations/rows/file-server"),
    required: &[1, 2, 10],
};

#[tokio::test]
async fn databases_of_every_earlier_schema_are_brought_up_to_date_with_all_they_hold() {
    for newest in migrator().iter().map(|migration| migration.version) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file-server.db");
        RECORDED_ROWS.make(&path, &migrator(), newest).await.unwrap();
        let store = Database::open(&path).await.unwrap();
        check(&store, newest).await;
        store.close().await;
    }
}

async fn check(store: &Database, newest: i64) {
    let id = |text: &str| text.parse::<FileId>().unwrap();
    let (whole, partly, deleted) = (
        id("01890a5d-ac96-774b-bcce-b302099a8057"),
        id("01890a5d-ac96-774b-bcce-b302099a8058"),
        id("01890a5d-ac96-774b-bcce-b302099a8059"),
    );
    let file = store.file(whole).await.unwrap().unwrap();
    assert!(file.root.is_some() && file.sha256.is_some() && file.chunks.len() == 2, "schema {newest}: {file:?}");
    let file = store.file(partly).await.unwrap().unwrap();
    assert!(file.root.is_none() && file.chunks.len() == 1, "schema {newest}: {file:?}");
    assert_eq!(store.chunk_digests(whole).await.unwrap().len(), 2, "schema {newest}");
    let cursors = store.cursors().await.unwrap();
    assert_eq!((cursors.of(&Stream::All), cursors.epoch.is_some()), (5, true), "schema {newest}");
    let reports = store.pending_reports(9).await.unwrap();
    assert!(reports.iter().any(|report| report.file == partly && report.counter == 9), "schema {newest}: {reports:?}");
    let token = |last: u8| Digest::try_from([&[0xee][..], &[0; 30], &[last]].concat().as_slice()).unwrap();
    assert!(matches!(store.token(token(1)).await.unwrap(), Some(TokenStatus::Granted(_))), "schema {newest}");
    assert!(matches!(store.token(token(2)).await.unwrap(), Some(TokenStatus::Revoked)), "schema {newest}");
    assert!(store.is_dropped(deleted).await.unwrap(), "schema {newest}");
    assert_eq!(store.high_water().await.unwrap(), Some(Timestamp::from_millisecond(1_764_000_000_000).unwrap()));
    assert_eq!(store.count_orphaned_files().await.unwrap(), u64::from(newest >= 10), "schema {newest}");
}
