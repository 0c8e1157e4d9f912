//! Lists of files, newest first, also by a part of their names.

use std::collections::BTreeMap;

use sqlx::Row as _;
use wire::{FileId, ServerId};

use super::{
    Store, corrupt,
    files::{COLUMNS, File, read_file},
    hex,
};

/// The index of names knows parts of so many characters.
const PART: usize = 3;

/// The number of the newest name that is older than the file `?2`; beyond all of them without one.
const NEWEST: &str = "case when ?2 is null then 9223372036854775807
    else coalesce((select n from names where file_id < ?2 order by file_id desc limit 1), 0) end";

/// Who sees what a job made.
const SEEN: &str = "(files.job_id is null or (state = 'available' and (?4 is null or exists
    (select 1 from job_askers where job_askers.job_id = files.job_id and user_id = ?4 and not has_left))))";

impl Store {
    /// Up to `most` entries older than `before`, newest first, whose names contain `part`. What a job made is there for its askers
    /// alone, once all of it is kept; for everybody without a `user`.
    ///
    /// # Errors
    /// The database's.
    pub async fn files(
        &self,
        (part, user): (&str, Option<i64>),
        before: Option<FileId>,
        most: u32,
    ) -> sqlx::Result<Vec<File>> {
        let indexed = part.chars().count() >= PART && !part.contains(char::is_control);
        let sql = if part.is_empty() {
            format!(
                "select {COLUMNS} from files where state <> 'deleting' and (?2 is null or files.id < ?2) and ?1 = '' and {SEEN}
                 order by files.id desc limit ?3"
            )
        } else if indexed {
            format!(
                "select {COLUMNS} from name_parts join names on names.n = name_parts.rowid join files on files.id = file_id
                 where name_parts match ?1 and {SEEN} and name_parts.rowid <= {NEWEST} order by name_parts.rowid desc limit ?3"
            )
        } else {
            // Short parts are in many names: a page of them is found soon, and there is no index that would be smaller than the names.
            format!(
                "select {COLUMNS} from names join files on files.id = file_id
                 where instr(lower(names.name), lower(?1)) > 0 and {SEEN} and names.n <= {NEWEST} order by names.n desc limit ?3"
            )
        };
        // A phrase of the index's own language, in which a quotation mark is doubled.
        let wanted = if indexed { format!("\"{}\"", part.replace('"', "\"\"")) } else { part.to_owned() };
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(wanted)
            .bind(before.map(|id| id.as_bytes().to_vec()))
            .bind(most)
            .bind(user)
            .fetch_all(&self.readers)
            .await?;
        rows.iter().map(read_file).collect()
    }

    /// The servers that reported a complete replica of each of some files.
    ///
    /// # Errors
    /// The database's.
    pub async fn holders(&self, files: &[FileId]) -> sqlx::Result<BTreeMap<FileId, Vec<ServerId>>> {
        let asked: Vec<String> = files.iter().map(|file| hex(file.as_bytes())).collect();
        let rows = sqlx::query(
            "select file_id, server_id from json_each(?) join files on files.id = unhex(value)
             join replicas on file_id = files.id and replicas.root = files.root",
        )
        .bind(serde_json::to_string(&asked).map_err(corrupt)?)
        .fetch_all(&self.readers)
        .await?;
        let mut holders: BTreeMap<FileId, Vec<ServerId>> = BTreeMap::new();
        for row in rows {
            let file = FileId::try_from(row.try_get::<&[u8], _>(0)?).map_err(corrupt)?;
            holders.entry(file).or_default().push(row.try_get::<&str, _>(1)?.parse().map_err(corrupt)?);
        }
        Ok(holders)
    }
}
