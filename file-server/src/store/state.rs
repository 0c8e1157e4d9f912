//! The one row of what there is once.

use jiff::Timestamp;

use super::{Durability, Store, StoreError};

impl Store {
    /// The latest time that was ever heard from the info-server.
    pub(crate) async fn high_water(&self) -> Result<Option<Timestamp>, StoreError> {
        let ms: Option<i64> = sqlx::query_scalar("select high_water from state").fetch_one(&self.reader).await?;
        ms.map(Timestamp::from_millisecond).transpose().map_err(|_| StoreError::Corrupt)
    }

    /// Remembers a time heard from the info-server; an earlier one than the mark changes nothing.
    pub(crate) async fn raise_high_water(&self, time: Timestamp) -> Result<(), StoreError> {
        let mut transaction = self.write(Durability::Ordered).await?;
        sqlx::query("update state set high_water = max(coalesce(high_water, 0), ?)")
            .bind(time.as_millisecond())
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(())
    }
}
