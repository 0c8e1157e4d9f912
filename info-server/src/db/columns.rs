//! Columns as SQLite keeps them, and back.

use jiff::Timestamp;

/// Wraps the failure to read a column that this program wrote: damage, never a user's mistake.
pub(crate) fn corrupt(error: impl std::error::Error + Send + Sync + 'static) -> sqlx::Error {
    sqlx::Error::Decode(Box::new(error))
}

/// Writes an id as SQL's `unhex` takes it.
pub(crate) fn hex(raw: &[u8; 16]) -> String {
    raw.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads a time in milliseconds since 1970.
pub(crate) fn from_millis(millis: i64) -> sqlx::Result<Timestamp> {
    Timestamp::from_millisecond(millis).map_err(corrupt)
}

/// Converts a number; what does not fit 63 bits counts as the largest that does.
pub(crate) fn to_i64(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Reads a number that is never negative.
pub(crate) fn to_u64(number: i64) -> sqlx::Result<u64> {
    u64::try_from(number).map_err(corrupt)
}
