//! Says how far the facts for all reach, to file servers that wait for more: what is revoked must not wait for a queue that
//! takes nothing, nor for the next heartbeat. Facts of another process on this database are noticed here, too.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;
use wire::event::Stream;

use crate::app::State;

/// Between two looks at the database.
const EVERY: Duration = Duration::from_millis(250);

/// Runs until `stop`.
pub(crate) async fn run(state: Arc<State>, stop: CancellationToken) -> anyhow::Result<()> {
    let mut failing = false;
    while stop.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_some() {
        match state.store.newest(&[Stream::All]).await {
            Ok((streams, last)) => {
                state.log.committed(last);
                state.log.reaches(streams.get(&Stream::All).copied().unwrap_or(0));
                failing = false;
            }
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!("cannot look for new facts: {error:#}");
                }
            }
        }
    }
    Ok(())
}
