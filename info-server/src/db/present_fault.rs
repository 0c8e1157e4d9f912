//! The fault for which a database takes no writes: noted where a write fails, ended by a trial.

use super::{connections::Database, failures::StorageFault};

/// Bytes that a trial of the database writes: more than the room that a failed write may have left.
const TRIAL_BYTES: u32 = 128 << 10;

impl Database {
    /// Returns the fault for which writes failed, until [`Self::try_again`] succeeds.
    pub fn fault(&self) -> Option<StorageFault> {
        self.fault.get()
    }

    /// Notes a failure; returns its fault. A fault is logged when it begins.
    pub fn note_failure(&self, error: &anyhow::Error) -> Option<StorageFault> {
        let fault = StorageFault::of(error)?;
        self.note_fault(fault, &format!("{error:#}"));
        Some(fault)
    }

    /// Notes a fault with its cause.
    pub fn note_fault(&self, fault: StorageFault, cause: &str) {
        if self.fault.replace(Some(fault)) != Some(fault) {
            let (word, advice) = (fault.word(), fault.advice());
            tracing::error!(fault = word, cause, "The database takes no writes ({word}: {cause}): {advice}");
        }
    }

    /// Writes something while a fault is present; a success ends the fault.
    ///
    /// # Errors
    /// The fault that goes on.
    pub async fn try_again(&self) -> sqlx::Result<()> {
        if self.fault().is_none() {
            return Ok(());
        }
        for statement in
            ["insert or replace into storage_trial (one, filler) values (1, zeroblob(?))", "delete from storage_trial"]
        {
            let mut write = self.write().await?;
            let trial = sqlx::query(statement);
            let trial = if statement.starts_with("insert") { trial.bind(TRIAL_BYTES) } else { trial };
            trial.execute(&mut *write).await?;
            write.commit().await?;
        }
        if self.fault.replace(None).is_some() {
            tracing::info!("The database takes writes again");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_fault_lasts_until_the_database_takes_writes_again() {
        let folder = tempfile::tempdir().unwrap();
        let db = Database::open(&folder.path().join("x.sqlite")).await.unwrap();
        sqlx::query("pragma query_only = on").execute(&db.writer).await.unwrap();
        assert_eq!(db.fault(), None);
        let error = sqlx::query("delete from storage_trial").execute(&db.writer).await.unwrap_err().into();
        assert_eq!(db.note_failure(&error), Some(StorageFault::ReadOnly));
        db.try_again().await.unwrap_err();
        assert_eq!(db.fault(), Some(StorageFault::ReadOnly));
        sqlx::query("pragma query_only = off").execute(&db.writer).await.unwrap();
        db.try_again().await.unwrap();
        assert_eq!(db.fault(), None);
    }
}
