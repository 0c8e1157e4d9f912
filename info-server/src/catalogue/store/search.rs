//! Lists of files, newest first, also by a part of their names.

use wire::JobId;

use crate::{
    catalogue::{
        file::File,
        search::{FileQuery, NameFilter},
        store::{COLUMNS, read_file},
    },
    db::{
        Database,
        columns::{hex, to_i64},
    },
};

/// The number of the newest name that is older than the file `?2`; beyond all of them without one.
const NEWEST: &str = "case when ?2 is null then 9223372036854775807
    else coalesce((select n from names where file_id < ?2 order by file_id desc limit 1), 0) end";

/// The condition under which the account `?4` sees a file.
const VISIBLE: &str = concat!(
    "(files.job_id is null or (state = 'available' and (?4 is null or exists ",
    "(select 1 from job_askers where job_askers.job_id = files.job_id and user_id = ?4 and not has_left))))",
);

impl Database {
    /// Returns up to `most` files that match a query, newest first. What a job made is listed for its requesters alone, once all of
    /// it is kept; for every account without a `viewer`.
    ///
    /// # Errors
    /// The database's.
    pub async fn files(&self, query: &FileQuery<'_>, most: u32) -> sqlx::Result<Vec<File>> {
        let filter = NameFilter::of(query.part);
        let sql = match &filter {
            NameFilter::All if query.size.is_some() => format!(
                "select {COLUMNS} from files where state = 'available' and files.job_id is null and size = ?7
                 and (?2 is null or files.id < ?2) and ?1 = '' and {VISIBLE} and files.id between ?5 and ?6
                 order by files.id desc limit ?3"
            ),
            NameFilter::All => format!(
                "select {COLUMNS} from files where state <> 'deleting' and (?2 is null or files.id < ?2) and ?1 = '' and {VISIBLE}
                 and files.id between ?5 and ?6 order by files.id desc limit ?3"
            ),
            NameFilter::Phrase(_) => format!(
                "select {COLUMNS} from name_parts join names on names.n = name_parts.rowid join files on files.id = file_id
                 where name_parts match ?1 and {VISIBLE} and name_parts.rowid <= {NEWEST}
                 and files.id between ?5 and ?6 and (?7 is null or size = ?7)
                 order by name_parts.rowid desc limit ?3"
            ),
            // Short parts are in many names: a page of them is found soon, and there is no index that would be smaller than the names.
            NameFilter::Short(_) => format!(
                "select {COLUMNS} from names join files on files.id = file_id
                 where instr(lower(names.name), lower(?1)) > 0 and {VISIBLE} and names.n <= {NEWEST}
                 and files.id between ?5 and ?6 and (?7 is null or size = ?7)
                 order by names.n desc limit ?3"
            ),
        };
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(filter.text())
            .bind(query.before.map(|id| id.as_bytes().to_vec()))
            .bind(most)
            .bind(query.viewer)
            .bind(query.ids.first.as_slice())
            .bind(query.ids.last.as_slice())
            .bind(query.size.map(to_i64))
            .fetch_all(self.readers())
            .await?;
        rows.iter().map(read_file).collect()
    }

    /// Returns true if an account requested a job and did not withdraw that.
    ///
    /// # Errors
    /// The database's.
    pub(crate) async fn is_requested_by(&self, job: JobId, user: i64) -> sqlx::Result<bool> {
        let requested: i64 = sqlx::query_scalar(
            "select exists (select 1 from job_askers where job_id = unhex(?) and user_id = ? and not has_left)",
        )
        .bind(hex(job.as_bytes()))
        .bind(user)
        .fetch_one(self.readers())
        .await?;
        Ok(requested != 0)
    }
}
