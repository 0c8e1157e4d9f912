//! Backoff between attempts to reach the event source.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use tokio_util::sync::CancellationToken;

/// Endless series of pauses: 0.2 s, doubling up to 2 s, each with up to as much again at random, so that a hundred servers do not
/// reconnect at the same moment.
#[derive(Debug)]
pub(crate) struct Backoff(ExponentialBackoff);

impl Backoff {
    pub(crate) fn new() -> Self {
        let builder = ExponentialBuilder::new()
            .with_min_delay(Duration::from_millis(200))
            .with_max_delay(Duration::from_secs(2))
            .without_max_times()
            .with_jitter();
        Self(builder.build())
    }

    /// Sleeps for the next pause, or until `shutdown`.
    pub(crate) async fn pause(&mut self, shutdown: &CancellationToken) {
        let pause = self.0.next().unwrap_or(Duration::from_secs(2));
        shutdown.run_until_cancelled(tokio::time::sleep(pause)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_never_end_and_stay_in_bounds() {
        let pauses: Vec<_> = Backoff::new().0.take(100).collect();
        assert_eq!(pauses.len(), 100);
        for pause in pauses {
            assert!((0.2..=4.0).contains(&pause.as_secs_f64()), "{pause:?}");
        }
    }
}
