//! The latest time received from the info-server, which outlives a restart.

use jiff::Timestamp;

use super::{Database, DatabaseError, Durability};

impl Database {
    /// Returns the latest time ever received from the info-server.
    pub(crate) async fn high_water(&self) -> Result<Option<Timestamp>, DatabaseError> {
        let ms: Option<i64> = sqlx::query_scalar("select high_water from state").fetch_one(&self.reader).await?;
        ms.map(Timestamp::from_millisecond).transpose().map_err(|_| DatabaseError::Corrupt)
    }

    /// Stores a time received from the info-server; one earlier than the mark changes nothing.
    pub(crate) async fn raise_high_water(&self, time: Timestamp) -> Result<(), DatabaseError> {
        let mut transaction = self.write(Durability::Ordered).await?;
        sqlx::query("update state set high_water = max(coalesce(high_water, 0), ?)")
            .bind(time.as_millisecond())
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(())
    }
}
