//! Files and their verified chunks.

use sqlx::{Row as _, Sqlite, Transaction, sqlite::SqliteRow};
use wire::{Digest, FileId, Layout, Runs};

use super::{
    Durability, Store, StoreError, bytes_column, from_sql, optional_bytes_column, repair::end_repair, reports, to_sql,
};

/// What is known of one file here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileRow {
    pub(crate) id: FileId,
    pub(crate) layout: Layout,
    pub(crate) runs: Runs,
    /// Set once all chunks are here.
    pub(crate) root: Option<Digest>,
    /// Set once the whole was read back.
    pub(crate) sha256: Option<Digest>,
}

/// A chunk whose bytes were verified and synced.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Addition {
    pub(crate) file: FileId,
    pub(crate) chunk: u32,
    pub(crate) digest: Digest,
}

impl Store {
    /// The file, if anything of it is here.
    pub(crate) async fn file(&self, id: FileId) -> Result<Option<FileRow>, StoreError> {
        let row = sqlx::query("select id, size, chunk_size, root, sha256 from file where id = ?")
            .bind(id.as_bytes().as_slice())
            .fetch_optional(&self.reader)
            .await?;
        let Some(mut file) = row.as_ref().map(read_file).transpose()? else { return Ok(None) };
        if file.root.is_some() {
            file.runs = file.layout.all();
            return Ok(Some(file));
        }
        let chunks: Vec<u32> = sqlx::query_scalar("select n from chunk where file = ? order by n")
            .bind(id.as_bytes().as_slice())
            .fetch_all(&self.reader)
            .await?;
        file.runs = chunks.into_iter().map(|n| n..n.saturating_add(1)).collect();
        Ok(Some(file))
    }

    /// Every file, without its runs.
    pub(crate) async fn files(&self) -> Result<Vec<FileRow>, StoreError> {
        let rows = sqlx::query("select id, size, chunk_size, root, sha256 from file").fetch_all(&self.reader).await?;
        rows.iter().map(read_file).collect()
    }

    /// Notes a file whose blob was just made. False when the file was deleted for good.
    pub(crate) async fn add_file(&self, id: FileId, layout: Layout) -> Result<bool, StoreError> {
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
            reports::note_change(&mut transaction, id).await?;
        }
        transaction.commit().await?;
        Ok(added > 0)
    }

    /// The digest of a chunk that is held.
    pub(crate) async fn chunk_digest(&self, id: FileId, chunk: u32) -> Result<Option<Digest>, StoreError> {
        let row = sqlx::query("select digest from chunk where file = ? and n = ?")
            .bind(id.as_bytes().as_slice())
            .bind(chunk)
            .fetch_optional(&self.reader)
            .await?;
        row.as_ref().map(|row| bytes_column(row, "digest")).transpose()
    }

    /// Notes synced chunks of any files in one transaction. Answers the roots of the files that are complete now;
    /// chunks of files that were dropped meanwhile are passed over.
    pub(crate) async fn add_chunks(&self, additions: &[Addition]) -> Result<Vec<(FileId, Digest)>, StoreError> {
        let mut transaction = self.write(Durability::Synced).await?;
        let mut files = Vec::new();
        for addition in additions {
            let added = sqlx::query(
                "insert into chunk (file, n, digest) select ?1, ?2, ?3
                 where exists (select 1 from file where id = ?1) on conflict do nothing",
            )
            .bind(addition.file.as_bytes().as_slice())
            .bind(addition.chunk)
            .bind(addition.digest.as_bytes().as_slice())
            .execute(&mut *transaction)
            .await?;
            if added.rows_affected() > 0 && !files.contains(&addition.file) {
                files.push(addition.file);
            }
        }
        let mut complete = Vec::new();
        for file in files {
            reports::note_change(&mut transaction, file).await?;
            complete.extend(set_root_if_complete(&mut transaction, file).await?.map(|root| (file, root)));
        }
        transaction.commit().await?;
        Ok(complete)
    }

    /// Notes the digest of the whole, read back from disk, and has it reported.
    pub(crate) async fn set_sha256(&self, id: FileId, digest: Digest) -> Result<(), StoreError> {
        let mut transaction = self.write(Durability::Ordered).await?;
        let noted = sqlx::query("update file set sha256 = ? where id = ? and root is not null")
            .bind(digest.as_bytes().as_slice())
            .bind(id.as_bytes().as_slice())
            .execute(&mut *transaction)
            .await?;
        if noted.rows_affected() > 0 {
            reports::note_change(&mut transaction, id).await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    /// A complete file whose whole was not read back yet.
    pub(crate) async fn unread(&self) -> Result<Option<FileId>, StoreError> {
        let row = sqlx::query(
            "select id from file where root is not null and sha256 is null
                 and not exists (select 1 from unknown where file = id) limit 1",
        )
        .fetch_optional(&self.reader)
        .await?;
        row.as_ref().map(|row| bytes_column(row, "id")).transpose()
    }

    /// Forgets a file, and has it reported.
    pub(crate) async fn forget_file(&self, id: FileId) -> Result<(), StoreError> {
        let mut transaction = self.write(Durability::Synced).await?;
        drop_file(&mut transaction, id).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Whether the catalogue said that nothing of this file should be here.
    pub(crate) async fn is_unwanted(&self, id: FileId) -> Result<bool, StoreError> {
        let row = sqlx::query("select 1 from assignment where file = ? and state <> 'assigned'")
            .bind(id.as_bytes().as_slice())
            .fetch_optional(&self.reader)
            .await?;
        Ok(row.is_some())
    }
}

/// Takes a file and its chunks out. True when there was one.
pub(super) async fn drop_file(transaction: &mut Transaction<'_, Sqlite>, id: FileId) -> Result<bool, StoreError> {
    let dropped = sqlx::query("delete from file where id = ?")
        .bind(id.as_bytes().as_slice())
        .execute(&mut **transaction)
        .await?
        .rows_affected();
    if dropped > 0 {
        reports::note_change(transaction, id).await?;
    }
    Ok(dropped > 0)
}

async fn set_root_if_complete(
    transaction: &mut Transaction<'_, Sqlite>,
    id: FileId,
) -> Result<Option<Digest>, StoreError> {
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

fn read_file(row: &SqliteRow) -> Result<FileRow, StoreError> {
    let (size, chunk_size) = (from_sql(row.try_get("size")?)?, from_sql(row.try_get("chunk_size")?)?);
    let layout = Layout::checked(size, chunk_size).map_err(|_| StoreError::Corrupt)?;
    Ok(FileRow {
        id: bytes_column(row, "id")?,
        layout,
        runs: Runs::new(),
        root: optional_bytes_column(row, "root")?,
        sha256: optional_bytes_column(row, "sha256")?,
    })
}
