//! The epoch: the life of a catalogue in which its event numbers count.

use std::sync::PoisonError;

use wire::id::Epoch;

use super::connections::Database;

impl Database {
    /// Returns the present epoch.
    pub fn epoch(&self) -> Epoch {
        *self.epoch.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a new epoch if `old` is still the present one: the database was put back to an earlier state, so that the
    /// numbers its readers have seen would be given out once more.
    ///
    /// # Errors
    /// The database's.
    pub async fn begin_epoch(&self, old: Epoch) -> sqlx::Result<()> {
        let new = Epoch::new();
        let mut write = self.write().await?;
        let begun = sqlx::query("update catalogue set epoch = ? where epoch = ?")
            .bind(new.as_bytes().as_slice())
            .bind(old.as_bytes().as_slice())
            .execute(&mut *write)
            .await?;
        write.commit().await?;
        if begun.rows_affected() == 1 {
            *self.epoch.write().unwrap_or_else(PoisonError::into_inner) = new;
        }
        Ok(())
    }
}
