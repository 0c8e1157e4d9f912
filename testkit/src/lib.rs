#![doc = include_str!("../README.md")]
#![expect(
    clippy::indexing_slicing,
    reason = "an unknown key of a JSON value is null; any other wrong index should fail its test"
)]

mod accept;
pub mod cluster;
pub mod fleet;
pub mod forward;
pub mod history;
pub mod netns;
pub mod nginx;
pub mod process;
pub mod proxy;
pub mod rabbitmq;
pub mod rogue;

use std::{sync::OnceLock, time::Duration};

/// A time window: `real` under `./test --full`, else `short`, which the programs are then told by their settings.
pub fn window(short: Duration, real: Duration) -> Duration {
    if full() { real } else { short }
}

/// Whether this run takes real time windows and all rounds (`./test --full`).
pub fn full() -> bool {
    std::env::var("DDM_TEST_WINDOWS").is_ok_and(|windows| windows == "real")
}

/// What decides everything random in a test: `DDM_TEST_SEED`, or a number of its own. Printed once, so that a run can be
/// repeated.
pub fn seed() -> u64 {
    static SEED: OnceLock<u64> = OnceLock::new();
    *SEED.get_or_init(|| {
        let given = std::env::var("DDM_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = given.unwrap_or_else(rand::random);
        eprintln!("repeat with DDM_TEST_SEED={seed}");
        seed
    })
}
