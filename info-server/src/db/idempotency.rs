//! Results of requests with an `Idempotency-Key`.

use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use sqlx::Row as _;
use wire::Digest;

use super::{Database, Write, columns::corrupt};

/// Time for which a key counts.
pub const KEY_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// The outcome of a request under its key. No token is in it: who has the key gets a new one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// Hash of the key, the account and the route.
    pub key: Digest,
    /// Hash of the request's body, which a repetition must have, too.
    pub request: Digest,
    /// Id of what was made.
    pub subject: String,
    /// Status of the answer.
    pub status: u16,
    /// Body of the answer without its secrets.
    pub body: String,
}

/// The keys of requests that are being answered.
#[derive(Debug, Default)]
pub struct KeysInUse(Mutex<HashSet<Digest>>);

/// A key that no other request has meanwhile.
#[derive(Debug)]
pub struct KeyInUse<'a> {
    keys: &'a KeysInUse,
    key: Digest,
}

impl KeysInUse {
    /// Reserves a key; none while another request has it.
    pub fn reserve(&self, key: Digest) -> Option<KeyInUse<'_>> {
        let is_free = self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key);
        is_free.then_some(KeyInUse { keys: self, key })
    }
}

impl Drop for KeyInUse<'_> {
    fn drop(&mut self) {
        self.keys.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

impl Database {
    /// Returns what a key made within its lifetime.
    ///
    /// # Errors
    /// The database's.
    pub async fn made(&self, key: Digest, now: Timestamp) -> sqlx::Result<Option<Made>> {
        let oldest = now.checked_sub(KEY_LIFETIME).map_err(corrupt)?;
        let row = sqlx::query(
            "select request_hash, subject, status, body from idempotency_keys where key_hash = ? and created_at >= ?",
        )
        .bind(key.as_bytes().as_slice())
        .bind(oldest.as_millisecond())
        .fetch_optional(self.readers())
        .await?;
        let Some(row) = row else { return Ok(None) };
        let request = Digest::try_from(row.try_get::<&[u8], _>(0)?).map_err(corrupt)?;
        let (subject, status, body) = (row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
        Ok(Some(Made { key, request, subject, status, body }))
    }
}

/// Notes what a key made. Returns false if the key counts already: then nothing may be committed.
///
/// # Errors
/// The database's.
pub async fn note(write: &mut Write, made: &Made, now: Timestamp) -> sqlx::Result<bool> {
    let oldest = now.checked_sub(KEY_LIFETIME).map_err(corrupt)?;
    let noted = sqlx::query(
        "insert into idempotency_keys (key_hash, request_hash, subject, status, body, created_at) values (?1, ?2, ?3, ?4, ?5, ?6)
         on conflict (key_hash) do update set request_hash = excluded.request_hash, subject = excluded.subject,
             status = excluded.status, body = excluded.body, created_at = excluded.created_at
         where idempotency_keys.created_at < ?7",
    )
    .bind(made.key.as_bytes().as_slice())
    .bind(made.request.as_bytes().as_slice())
    .bind(&made.subject)
    .bind(made.status)
    .bind(&made.body)
    .bind(now.as_millisecond())
    .bind(oldest.as_millisecond())
    .execute(&mut **write)
    .await?;
    Ok(noted.rows_affected() == 1)
}

/// Deletes keys past their lifetime; returns their number.
///
/// # Errors
/// The database's.
pub async fn trim(write: &mut Write, now: Timestamp, most: u32) -> sqlx::Result<u64> {
    let oldest = now.checked_sub(KEY_LIFETIME).map_err(corrupt)?;
    let trimmed = sqlx::query(
        "delete from idempotency_keys where key_hash in
             (select key_hash from idempotency_keys where created_at < ? limit ?)",
    )
    .bind(oldest.as_millisecond())
    .bind(most)
    .execute(&mut **write)
    .await?;
    Ok(trimmed.rows_affected())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_key_counts_once_for_a_day() {
        let folder = tempfile::tempdir().unwrap();
        let db = Database::open(&folder.path().join("x.sqlite")).await.unwrap();
        let now = Timestamp::now();
        let made = |subject: &str| Made {
            key: Digest::of(b"key"),
            request: Digest::of(b"request"),
            subject: subject.to_owned(),
            status: 201,
            body: "{}".to_owned(),
        };
        let note_at = async |subject: &str, at: Timestamp| {
            let mut write = db.write().await.unwrap();
            let noted = note(&mut write, &made(subject), at).await.unwrap();
            write.commit().await.unwrap();
            noted
        };
        assert!(note_at("first", now).await);
        assert!(!note_at("second", now + Duration::from_secs(23 * 3600)).await);
        assert_eq!(db.made(Digest::of(b"key"), now).await.unwrap(), Some(made("first")));
        let later = now + Duration::from_secs(25 * 3600);
        assert_eq!(db.made(Digest::of(b"key"), later).await.unwrap(), None);
        assert!(note_at("third", later).await);
        let mut write = db.write().await.unwrap();
        assert_eq!(trim(&mut write, later, 10).await.unwrap(), 0);
        assert_eq!(trim(&mut write, later + KEY_LIFETIME + Duration::from_secs(1), 10).await.unwrap(), 1);
    }
}
