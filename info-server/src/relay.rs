//! Sends committed events to the bus, in order; an event counts as sent only once the bus confirmed it, or said that some
//! queue will not have it: whoever reads from that one finds it in the log.
//!
//! What waits is on disk: 256 events are in memory, however long the bus is away.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bus::{Amqp, BusError, EventBus, Outbound, Outbox, Receipt};
use bytes::Bytes;
use secrecy::{ExposeSecret as _, SecretString};
use tokio_util::sync::CancellationToken;

use crate::{
    app::State,
    store::outbox::{self, Sent},
};

/// Events in one publication, all of them in flight together.
const BATCH: u32 = 256;
/// Between tries while the bus takes nothing; it supervises its own connection.
const PAUSE: Duration = Duration::from_millis(200);
/// A look at the outbox even if nobody told of a commit.
const EVERY: Duration = Duration::from_secs(5);

/// Between two tries to do away with queues that hold up events.
const HEAL_EVERY: Duration = Duration::from_secs(15);

/// The bus that the settings call for.
pub(crate) fn bus(broker: Option<SecretString>) -> anyhow::Result<Arc<dyn EventBus>> {
    Ok(match broker {
        None => Arc::new(Outbox::publisher()),
        Some(url) => Arc::new(Amqp::new(url.expose_secret())?),
    })
}

/// Runs until `stop`; what is not sent by then is sent after the next start.
pub(crate) async fn run(state: Arc<State>, stop: CancellationToken) -> anyhow::Result<()> {
    let connected = state.bus.run(stop.clone());
    let relayed = relay(&state, &stop);
    tokio::join!(connected, relayed);
    Ok(())
}

async fn relay(state: &State, stop: &CancellationToken) {
    let mut log = state.log.subscribe();
    let (mut failing, mut healed) = (false, None);
    while !stop.is_cancelled() {
        log.mark_unchanged();
        let sent = stop.run_until_cancelled(send_waiting(state, &mut healed)).await;
        match sent {
            None => break,
            Some(Ok(0)) => {
                failing = false;
                tokio::select! {
                    _ = log.changed() => {}
                    () = tokio::time::sleep(EVERY) => {}
                    () = stop.cancelled() => {}
                }
            }
            Some(Ok(_)) => failing = false,
            Some(Err(error)) => {
                // The bus tells of its own outages; ours are told once each.
                if !failing && !error.is::<BusError>() {
                    tracing::error!("events wait: {error:#}");
                }
                failing = true;
                stop.run_until_cancelled(tokio::time::sleep(PAUSE)).await;
            }
        }
    }
}

/// Some queue holds up the events of others: now and then those of servers that are away are done away with.
async fn heal(state: &State, healed: &mut Option<Instant>) {
    if healed.is_some_and(|at| at.elapsed() < HEAL_EVERY) {
        return;
    }
    *healed = Some(Instant::now());
    let servers = state.registry().ids();
    if let Err(error) = state.bus.heal(&servers).await {
        tracing::warn!("queues that hold up events could not be deleted (see 'ddm-info-server drop-queue'): {error}");
    }
}

/// Sends the oldest waiting events; how many there were.
async fn send_waiting(state: &State, healed: &mut Option<Instant>) -> anyhow::Result<usize> {
    let events = state.store.waiting(BATCH).await?;
    if events.is_empty() {
        return Ok(0);
    }
    let batch = events
        .iter()
        .map(|event| {
            Ok(Outbound {
                id: format!("{}-{}", event.epoch, event.seq),
                routing_key: event.fact.routing_key(&event.stream),
                body: Bytes::from(serde_json::to_vec(event)?),
            })
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    let receipts = state.bus.publish(&batch).await?;
    if receipts.contains(&Receipt::HeldUp) {
        heal(state, healed).await;
    }
    let with = |wanted: Sent| -> Vec<u64> {
        let became = |receipt: &Receipt| match receipt {
            Receipt::Confirmed => Sent::Confirmed,
            Receipt::Unrouted | Receipt::HeldUp => Sent::Unrouted,
        };
        events.iter().zip(&receipts).filter(|(_, got)| became(got) == wanted).map(|(event, _)| event.seq).collect()
    };
    let (confirmed, unrouted) = (with(Sent::Confirmed), with(Sent::Unrouted));
    // An event whose mark is lost is sent again, and changes nothing where it is known.
    let mut write = state.store.write_lazily().await?;
    outbox::mark(&mut write, &confirmed, Sent::Confirmed).await?;
    outbox::mark(&mut write, &unrouted, Sent::Unrouted).await?;
    write.commit().await?;
    state.metrics.published("confirmed", confirmed.len());
    state.metrics.published("unrouted", unrouted.len());
    Ok(events.len())
}
