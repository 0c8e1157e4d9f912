//! The task that sends committed events to the bus, in order.
//!
//! An event counts as sent only once the bus confirmed it, or answered that some queue will not take it: the file server behind that
//! queue finds it in the log. What waits is on disk: 256 events are in memory, however long the bus is away.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bus::{BusError, Outbound, Receipt};
use bytes::Bytes;
use lifecycle::fault_log::FaultLog;
use tokio_util::sync::CancellationToken;

use crate::{
    events::outbox::{self, Sent},
    state::State,
};

static QUEUE_FAULTS: FaultLog =
    FaultLog::new("Queues that hold up events could not be deleted (see 'ddm-info-server drop-queue')");

/// Events in one publication, all of them in flight together.
const MAX_EVENTS_IN_FLIGHT: u32 = 256;
/// Time between tries while the bus takes nothing; it supervises its own connection.
const RETRY_INTERVAL: Duration = Duration::from_millis(200);
/// Time after which the outbox is read even if no commit was announced.
const POLL_INTERVAL: Duration = Duration::from_secs(5);
/// Time between two tries to delete queues that hold up events.
const QUEUE_CLEANUP_INTERVAL: Duration = Duration::from_secs(15);

/// Runs until `stop`; what is not sent by then is sent after the next start.
pub(crate) async fn run(state: Arc<State>, stop: CancellationToken) -> anyhow::Result<()> {
    let connected = state.bus.run(stop.clone());
    let relayed = relay(&state, &stop);
    tokio::join!(connected, relayed);
    Ok(())
}

async fn relay(state: &State, stop: &CancellationToken) {
    let mut log = state.log.subscribe();
    let (faults, mut cleaned_up) = (FaultLog::new("Events cannot be sent for now"), None);
    while !stop.is_cancelled() {
        log.mark_unchanged();
        let sent = stop.run_until_cancelled(send_waiting(state, &mut cleaned_up)).await;
        match sent {
            None => break,
            Some(Ok(0)) => {
                faults.succeeded();
                tokio::select! {
                    _ = log.changed() => {}
                    () = tokio::time::sleep(POLL_INTERVAL) => {}
                    () = stop.cancelled() => {}
                }
            }
            Some(Ok(_)) => faults.succeeded(),
            Some(Err(error)) => {
                // The bus logs its own outages.
                if !error.is::<BusError>() {
                    faults.failed(format_args!("{error:#}"));
                }
                stop.run_until_cancelled(tokio::time::sleep(RETRY_INTERVAL)).await;
            }
        }
    }
}

/// Deletes the queues of servers that are away, now and then: one of them holds up the events of others.
async fn delete_stalled_queues(state: &State, cleaned_up: &mut Option<Instant>) {
    if cleaned_up.is_some_and(|at| at.elapsed() < QUEUE_CLEANUP_INTERVAL) {
        return;
    }
    *cleaned_up = Some(Instant::now());
    let servers = state.registry().ids();
    if let Err(error) = state.bus.delete_stalled_queues(&servers).await {
        QUEUE_FAULTS.failed(error);
    }
}

/// Sends the oldest waiting events; returns their number.
async fn send_waiting(state: &State, cleaned_up: &mut Option<Instant>) -> anyhow::Result<usize> {
    let events = state.db.waiting(MAX_EVENTS_IN_FLIGHT).await?;
    if events.is_empty() {
        return Ok(0);
    }
    let batch = events
        .iter()
        .map(|event| {
            Ok(Outbound {
                id: format!("{}-{}", event.epoch, event.seq),
                routing_key: event.payload.routing_key(&event.stream),
                body: Bytes::from(serde_json::to_vec(event)?),
            })
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    let receipts = state.bus.publish(&batch).await?;
    if receipts.contains(&Receipt::Unconfirmed) {
        delete_stalled_queues(state, cleaned_up).await;
    }
    let with = |wanted: Sent| -> Vec<u64> {
        let outcome = |receipt: &Receipt| match receipt {
            Receipt::Confirmed => Sent::Confirmed,
            Receipt::Unrouted | Receipt::Unconfirmed => Sent::Unrouted,
        };
        events
            .iter()
            .zip(&receipts)
            .filter(|(_, receipt)| outcome(receipt) == wanted)
            .map(|(event, _)| event.seq)
            .collect()
    };
    let (confirmed, unrouted) = (with(Sent::Confirmed), with(Sent::Unrouted));
    // An event whose mark is lost is sent again, and changes nothing where it is known.
    let mut write = state.db.write_lazily().await?;
    outbox::mark(&mut write, &confirmed, Sent::Confirmed).await?;
    outbox::mark(&mut write, &unrouted, Sent::Unrouted).await?;
    write.commit().await?;
    state.metrics.published("confirmed", confirmed.len());
    state.metrics.published("unrouted", unrouted.len());
    Ok(events.len())
}
