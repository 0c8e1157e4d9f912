//! Limits of the user, which are no fault of a server.

use std::time::Duration;

use ddm_transfer::{download::Outcome, progress::Notice, rate_limiter::RateLimiter};

use crate::world::World;

/// Bytes per second.
const RATE: u64 = 256 << 10;
/// Time for which other transfers of the user hold the limit.
const BUSY_SECONDS: u64 = 4;

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_for_the_own_limit_is_no_silence_of_a_server() {
    let mut world = World::new(RATE, 3).await;
    world.settings.rate_limiter = RateLimiter::with_total(RATE);
    let limiter = world.settings.rate_limiter.clone();
    let other = tokio::spawn(async move { limiter.acquire_total(usize::try_from(BUSY_SECONDS * RATE).unwrap()).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    let report = world.download().await.unwrap();
    other.await.unwrap();
    world.check(&report);
    assert!(
        report.elapsed >= Duration::from_secs(BUSY_SECONDS) && report.elapsed < Duration::from_secs(BUSY_SECONDS + 4),
        "{report:?}"
    );
    assert!(report.sources.iter().all(|source| source.outcome == Outcome::Fine), "{report:?}");
    assert_eq!((report.wasted, report.sources.iter().map(|source| source.requests).sum::<u32>()), (0, 1), "{report:?}");
    let notices = world.notices();
    assert!(!notices.iter().any(|notice| matches!(notice, Notice::Lost { .. })), "{notices:?}");
}
