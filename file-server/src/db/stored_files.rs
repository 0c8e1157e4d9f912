//! Stored files and their verified chunks.

use chunk_store::{BlobRecord, CompletedFile, NewChunk, RecordedChunk, StoredFile};
use sqlx::{Row as _, Sqlite, Transaction, sqlite::SqliteRow};
use wire::{ChunkLayout, ChunkSet, Digest, FileId};

use super::{
    Database, DatabaseError, Durability, bytes_column, from_sql, optional_bytes_column,
    repairs::{end_repair, note_repair},
    reports::note_change,
    to_sql,
};

impl Database {
    /// Returns a file's record; `None` when nothing of it is stored.
    pub(crate) async fn file(&self, id: FileId) -> Result<Option<BlobRecord>, DatabaseError> {
        let row = sqlx::query("select id, size, chunk_size, root, sha256 from file where id = ?")
            .bind(id.as_bytes().as_slice())
            .fetch_optional(&self.reader)
            .await?;
        let Some(mut file) = row.as_ref().map(read_file).transpose()? else { return Ok(None) };
        if file.root.is_some() {
            file.chunks = file.layout.all();
            return Ok(Some(file));
        }
        let chunks: Vec<u32> = sqlx::query_scalar("select n from chunk where file = ? order by n")
            .bind(id.as_bytes().as_slice())
            .fetch_all(&self.reader)
            .await?;
        file.chunks = chunks.into_iter().map(|n| n..n.saturating_add(1)).collect();
        Ok(Some(file))
    }

    /// Returns the records of all files, without their chunks.
    pub(crate) async fn files(&self) -> Result<Vec<BlobRecord>, DatabaseError> {
        let rows = sqlx::query("select id, size, chunk_size, root, sha256 from file").fetch_all(&self.reader).await?;
        rows.iter().map(read_file).collect()
    }

    /// Records a file whose blob was just created; false when the file was deleted for good.
    pub(crate) async fn add_file(&self, id: FileId, layout: ChunkLayout) -> Result<bool, DatabaseError> {
        let empty = (layout.count() == 0).then(|| Digest::of(b""));
        let mut transaction = self.write(Durability::Synced).await?;
        let added = sqlx::query(
            "insert into file (id, size, chunk_size, root, sha256) select ?1, ?2, ?3, ?4, ?4
             where not exists (select 1 from assignment where file = ?1 and state = 'deleted')",
        )
        .bind(id.as_bytes().as_slice())
        .bind(to_sql(layout.size()))
        .bind(to_sql(layout.chunk_size()))
        .bind(empty.as_ref().map(|digest| digest.as_bytes().as_slice()))
        .execute(&mut *transaction)
        .await?
        .rows_affected();
        if empty.is_some() && added > 0 {
            note_change(&mut transaction, id).await?;
        }
        transaction.commit().await?;
        Ok(added > 0)
    }

    /// Records a file whose bytes were found on disk; false when it was deleted for good.
    pub(crate) async fn add_stored_file(&self, file: &StoredFile) -> Result<bool, DatabaseError> {
        let StoredFile { id, layout, chunks, sha256, withheld } = file;
        let digests: Vec<Digest> = chunks.iter().map(|chunk| chunk.digest).collect();
        let root = sha256.map(|_| Digest::root_of(&digests));
        let mut transaction = self.write(Durability::Synced).await?;
        let added = sqlx::query(
            "insert into file (id, size, chunk_size, root, sha256) select ?1, ?2, ?3, ?4, ?5
             where not exists (select 1 from assignment where file = ?1 and state = 'deleted')",
        )
        .bind(id.as_bytes().as_slice())
        .bind(to_sql(layout.size()))
        .bind(to_sql(layout.chunk_size()))
        .bind(root.as_ref().map(|digest| digest.as_bytes().as_slice()))
        .bind(sha256.as_ref().map(|digest| digest.as_bytes().as_slice()))
        .execute(&mut *transaction)
        .await?
        .rows_affected();
        if added == 0 {
            return Ok(false);
        }
        for RecordedChunk { chunk, digest } in chunks {
            sqlx::query("insert into chunk (file, n, digest) values (?, ?, ?)")
                .bind(id.as_bytes().as_slice())
                .bind(*chunk)
                .bind(digest.as_bytes().as_slice())
                .execute(&mut *transaction)
                .await?;
        }
        if *withheld {
            sqlx::query("insert into unknown (file) values (?)")
                .bind(id.as_bytes().as_slice())
                .execute(&mut *transaction)
                .await?;
        } else if root.is_none() {
            note_repair(&mut transaction, *id).await?;
        }
        note_change(&mut transaction, *id).await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// Returns the digest of a stored chunk.
    pub(crate) async fn chunk_digest(&self, id: FileId, chunk: u32) -> Result<Option<Digest>, DatabaseError> {
        let row = sqlx::query("select digest from chunk where file = ? and n = ?")
            .bind(id.as_bytes().as_slice())
            .bind(chunk)
            .fetch_optional(&self.reader)
            .await?;
        row.as_ref().map(|row| bytes_column(row, "digest")).transpose()
    }

    /// Records synced chunks of any files in one transaction, and returns the files that are complete now. Chunks of files that
    /// were dropped meanwhile are passed over.
    pub(crate) async fn add_chunks(&self, chunks: &[NewChunk]) -> Result<Vec<CompletedFile>, DatabaseError> {
        let mut transaction = self.write(Durability::Synced).await?;
        let mut files = Vec::new();
        for chunk in chunks {
            let added = sqlx::query(
                "insert into chunk (file, n, digest) select ?1, ?2, ?3
                 where exists (select 1 from file where id = ?1) on conflict do nothing",
            )
            .bind(chunk.file.as_bytes().as_slice())
            .bind(chunk.chunk)
            .bind(chunk.digest.as_bytes().as_slice())
            .execute(&mut *transaction)
            .await?;
            if added.rows_affected() > 0 && !files.contains(&chunk.file) {
                files.push(chunk.file);
            }
        }
        let mut complete = Vec::new();
        for file in files {
            note_change(&mut transaction, file).await?;
            complete
                .extend(set_root_if_complete(&mut transaction, file).await?.map(|root| CompletedFile { file, root }));
        }
        transaction.commit().await?;
        Ok(complete)
    }

    /// Returns the stored chunks in ascending order.
    pub(crate) async fn chunk_digests(&self, id: FileId) -> Result<Vec<RecordedChunk>, DatabaseError> {
        let rows = sqlx::query("select n, digest from chunk where file = ? order by n")
            .bind(id.as_bytes().as_slice())
            .fetch_all(&self.reader)
            .await?;
        rows.iter()
            .map(|row| Ok(RecordedChunk { chunk: row.try_get("n")?, digest: bytes_column(row, "digest")? }))
            .collect()
    }

    /// Replaces the digest of a stored chunk.
    pub(crate) async fn correct_digest(&self, id: FileId, chunk: RecordedChunk) -> Result<(), DatabaseError> {
        let mut transaction = self.write(Durability::Synced).await?;
        sqlx::query("update chunk set digest = ? where file = ? and n = ?")
            .bind(chunk.digest.as_bytes().as_slice())
            .bind(id.as_bytes().as_slice())
            .bind(chunk.chunk)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Removes corrupt chunks, and has them reported and fetched again.
    pub(crate) async fn withdraw_chunks(&self, id: FileId, chunks: &[u32]) -> Result<(), DatabaseError> {
        let mut transaction = self.write(Durability::Synced).await?;
        for chunk in chunks {
            sqlx::query("delete from chunk where file = ? and n = ?")
                .bind(id.as_bytes().as_slice())
                .bind(chunk)
                .execute(&mut *transaction)
                .await?;
        }
        let recorded = sqlx::query("update file set root = null, sha256 = null where id = ?")
            .bind(id.as_bytes().as_slice())
            .execute(&mut *transaction)
            .await?
            .rows_affected();
        if recorded > 0 {
            note_repair(&mut transaction, id).await?;
            note_change(&mut transaction, id).await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    /// Removes a file whose bytes are gone from the disk, and has it reported and fetched again.
    pub(crate) async fn record_loss(&self, id: FileId) -> Result<(), DatabaseError> {
        let mut transaction = self.write(Durability::Synced).await?;
        if drop_file(&mut transaction, id).await? {
            note_repair(&mut transaction, id).await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    /// Records the SHA-256 of a complete file, and has it reported.
    pub(crate) async fn set_sha256(&self, id: FileId, digest: Digest) -> Result<(), DatabaseError> {
        let mut transaction = self.write(Durability::Ordered).await?;
        let noted = sqlx::query("update file set sha256 = ? where id = ? and root is not null")
            .bind(digest.as_bytes().as_slice())
            .bind(id.as_bytes().as_slice())
            .execute(&mut *transaction)
            .await?;
        if noted.rows_affected() > 0 {
            note_change(&mut transaction, id).await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    /// Returns complete files whose SHA-256 is not recorded, at most `limit`, the newest first: ids ascend in time.
    pub(crate) async fn files_without_sha256(&self, limit: u32) -> Result<Vec<FileId>, DatabaseError> {
        let rows = sqlx::query(
            "select id from file where root is not null and sha256 is null
                 and not exists (select 1 from unknown where file = id) order by id desc limit ?",
        )
        .bind(limit)
        .fetch_all(&self.reader)
        .await?;
        rows.iter().map(|row| bytes_column(row, "id")).collect()
    }

    /// Removes a file's record, and has that reported.
    pub(crate) async fn remove_file(&self, id: FileId) -> Result<(), DatabaseError> {
        let mut transaction = self.write(Durability::Synced).await?;
        drop_file(&mut transaction, id).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Returns true if an event or an answer of the info-server dropped the file.
    pub(crate) async fn is_dropped(&self, id: FileId) -> Result<bool, DatabaseError> {
        let row = sqlx::query("select 1 from assignment where file = ? and state <> 'assigned'")
            .bind(id.as_bytes().as_slice())
            .fetch_optional(&self.reader)
            .await?;
        Ok(row.is_some())
    }
}

/// Removes the record of a file and its chunks; true when there was one.
pub(super) async fn drop_file(transaction: &mut Transaction<'_, Sqlite>, id: FileId) -> Result<bool, DatabaseError> {
    let dropped = sqlx::query("delete from file where id = ?")
        .bind(id.as_bytes().as_slice())
        .execute(&mut **transaction)
        .await?
        .rows_affected();
    if dropped > 0 {
        note_change(transaction, id).await?;
    }
    Ok(dropped > 0)
}

/// Records the root of a file, all of whose chunks are stored.
async fn set_root_if_complete(
    transaction: &mut Transaction<'_, Sqlite>,
    id: FileId,
) -> Result<Option<Digest>, DatabaseError> {
    let row = sqlx::query("select id, size, chunk_size, root, sha256 from file where id = ?")
        .bind(id.as_bytes().as_slice())
        .fetch_one(&mut **transaction)
        .await?;
    let file = read_file(&row)?;
    let held: u32 = sqlx::query_scalar("select count(*) from chunk where file = ?")
        .bind(id.as_bytes().as_slice())
        .fetch_one(&mut **transaction)
        .await?;
    if held < file.layout.count() {
        return Ok(None);
    }
    let rows = sqlx::query("select digest from chunk where file = ? order by n")
        .bind(id.as_bytes().as_slice())
        .fetch_all(&mut **transaction)
        .await?;
    let digests = rows.iter().map(|row| bytes_column(row, "digest")).collect::<Result<Vec<Digest>, _>>()?;
    let root = Digest::root_of(&digests);
    sqlx::query("update file set root = ? where id = ?")
        .bind(root.as_bytes().as_slice())
        .bind(id.as_bytes().as_slice())
        .execute(&mut **transaction)
        .await?;
    end_repair(transaction, id).await?;
    Ok(Some(root))
}

fn read_file(row: &SqliteRow) -> Result<BlobRecord, DatabaseError> {
    let (size, chunk_size) = (from_sql(row.try_get("size")?)?, from_sql(row.try_get("chunk_size")?)?);
    let layout = ChunkLayout::checked(size, chunk_size).map_err(|_| DatabaseError::Corrupt)?;
    Ok(BlobRecord {
        id: bytes_column(row, "id")?,
        layout,
        chunks: ChunkSet::new(),
        root: optional_bytes_column(row, "root")?,
        sha256: optional_bytes_column(row, "sha256")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_corrupt_chunk_is_missing_until_it_is_stored_again_and_a_lost_file_until_its_repair_is_cancelled() {
        let folder = tempfile::tempdir().unwrap();
        let store = Database::open(&folder.path().join("db")).await.unwrap();
        let (file, layout) = (FileId::new(), ChunkLayout::of(2 << 20).unwrap());
        let chunk = |chunk| NewChunk { file, chunk, digest: Digest::of(b"x") };
        assert!(store.add_file(file, layout).await.unwrap());
        assert_eq!(store.add_chunks(&[chunk(0), chunk(1)]).await.unwrap().len(), 1);
        assert!(store.incomplete_files(9).await.unwrap().is_empty() && !store.is_wanted(file).await.unwrap());

        store.withdraw_chunks(file, &[1]).await.unwrap();
        let row = store.file(file).await.unwrap().unwrap();
        assert_eq!((row.root, row.chunks.len()), (None, 1));
        assert_eq!(store.incomplete_files(9).await.unwrap(), [file]);
        assert_eq!(store.add_chunks(&[chunk(1)]).await.unwrap().len(), 1);
        assert!(store.incomplete_files(9).await.unwrap().is_empty() && !store.is_wanted(file).await.unwrap());

        store.record_loss(file).await.unwrap();
        assert!(store.file(file).await.unwrap().is_none());
        assert_eq!(store.incomplete_files(9).await.unwrap(), [file]);
        store.cancel_repair(file).await.unwrap();
        assert!(store.incomplete_files(9).await.unwrap().is_empty());
    }
}
