//! The rate that servers demand of uploads.

use std::time::Duration;

/// Average rate that a server demands of the body of a chunk, in bytes per second.
pub const MIN_ACCEPTED_BODY_RATE: u64 = 4096;
/// Time that a server allows for a body beyond that.
pub const BODY_GRACE_TIME: Duration = Duration::from_secs(30);
