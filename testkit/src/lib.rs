//! Real servers inside a test, and servers that misbehave as told.

#![expect(
    clippy::indexing_slicing,
    reason = "an unknown key of a JSON value is null; any other wrong index should fail its test"
)]

pub mod cluster;
pub mod process;
pub mod proxy;
pub mod rabbitmq;
pub mod rogue;

use std::time::Duration;

/// A time window: `real` under `./test --full`, else `short`, which the programs are then told by their settings.
pub fn window(short: Duration, real: Duration) -> Duration {
    let full = std::env::var("DDM_TEST_WINDOWS").is_ok_and(|windows| windows == "real");
    if full { real } else { short }
}
