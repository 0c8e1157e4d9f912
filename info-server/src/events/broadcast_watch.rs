//! The task that watches the stream for all servers.
//!
//! File servers wait for its news with a long poll of their own: a revocation must not wait for a queue that takes nothing, nor for
//! the next heartbeat. The watch also finds events of another process on this database.

use std::{sync::Arc, time::Duration};

use lifecycle::tasks::Rounds;
use tokio_util::sync::CancellationToken;
use wire::event::Stream;

use crate::state::State;

const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// Runs until `stop`.
pub(crate) async fn run(state: Arc<State>, stop: CancellationToken) -> anyhow::Result<()> {
    let mut rounds = Rounds::new(POLL_INTERVAL, stop, "reading the newest events");
    while rounds.next().await {
        rounds.end(announce_newest(&state).await);
    }
    Ok(())
}

async fn announce_newest(state: &State) -> anyhow::Result<()> {
    let (streams, last) = state.db.newest(&[Stream::All]).await?;
    state.log.announce(last);
    state.log.announce_broadcast(streams.get(&Stream::All).copied().unwrap_or(0));
    Ok(())
}
