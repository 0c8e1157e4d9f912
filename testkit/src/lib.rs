#![doc = include_str!("../README.md")]
#![expect(
    clippy::indexing_slicing,
    reason = "an unknown key of a JSON value is null; any other wrong index should fail its test"
)]

mod accept;
pub mod cluster;
pub mod digest;
pub mod fleet;
pub mod forward;
pub mod history;
pub mod netns;
pub mod nginx;
pub mod port;
pub mod power_cut;
pub mod process;
pub mod proxy;
pub mod rabbitmq;
pub mod rogue;

use std::{sync::OnceLock, time::Duration};

/// Password of every account that a test makes.
pub const PASSWORD: &str = "correct horse battery";

/// Returns a time window: `real` under `./test --full`, else `short`, which the programs are then told by their settings.
pub fn window(short: Duration, real: Duration) -> Duration {
    if full() { real } else { short }
}

/// Returns true if this run uses real time windows and all rounds (`./test --full`).
pub fn full() -> bool {
    std::env::var("DDM_TEST_WINDOWS").is_ok_and(|windows| windows == "real")
}

/// Returns the seed of all randomness in a test: `DDM_TEST_SEED`, or a new number. It is printed once, so that a run can be
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
