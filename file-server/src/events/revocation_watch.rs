//! Watch for late revocations. A broker delivers events at once, unless a queue accepts nothing or the connection is gone.
//! The info-server reports at once that there are new events for all servers; those that the broker has not delivered a moment
//! later are read from the log. So a revocation takes effect within 2 s here, whatever the broker does.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use lifecycle::Shutdown;
use wire::event::Stream;

use crate::{events::consumer::EventConsumer, state::AppState};

/// Time that the info-server may wait for new events before it answers.
const LONG_POLL: Duration = Duration::from_secs(20);
/// Time that the broker has to deliver events that the info-server reported.
const DELIVERY_GRACE: Duration = Duration::from_millis(200);
/// Pause after new events; also while no event was received yet, as the request names the epoch of the last one.
const POLL_PAUSE: Duration = Duration::from_millis(250);
/// Pause after a failure, or an answer that did not wait.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Watches until `shutdown`.
pub(crate) async fn watch_revocations(
    state: Arc<AppState>,
    consumer: Arc<EventConsumer>,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    let watching = async {
        loop {
            state.until_registered().await;
            let pause = poll_once(&state, &consumer).await;
            tokio::time::sleep(pause).await;
        }
    };
    tokio::select! {
        () = watching => Ok(()),
        () = shutdown.finishing().cancelled() => Ok(()),
    }
}

/// Sends one long poll to the info-server, and returns the pause before the next time.
async fn poll_once(state: &AppState, consumer: &EventConsumer) -> Duration {
    let Ok(cursors) = state.db.cursors().await else { return RETRY_PAUSE };
    let Some(epoch) = cursors.epoch else { return POLL_PAUSE };
    let sent_at = Instant::now();
    let Ok(reported) = state.info.wait_for_broadcast(epoch, cursors.of(&Stream::All), LONG_POLL).await else {
        return RETRY_PAUSE;
    };
    if reported.epoch == epoch && reported.as_of <= cursors.of(&Stream::All) {
        return if sent_at.elapsed() < LONG_POLL / 2 { RETRY_PAUSE } else { Duration::ZERO };
    }
    tokio::time::sleep(DELIVERY_GRACE).await;
    match state.db.cursors().await {
        Ok(cursors) if cursors.epoch == Some(reported.epoch) && cursors.of(&Stream::All) >= reported.as_of => {}
        _ => consumer.catch_up(),
    }
    POLL_PAUSE
}
