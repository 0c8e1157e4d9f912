//! Sends committed events to the bus, in order; an event counts as sent only once the bus confirmed it.

use std::{sync::Arc, time::Duration};

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
    let mut failing = false;
    while !stop.is_cancelled() {
        log.mark_unchanged();
        let sent = stop.run_until_cancelled(send_waiting(state)).await;
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

/// Sends the oldest waiting events; how many there were.
async fn send_waiting(state: &State) -> anyhow::Result<usize> {
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
    let with = |wanted: Receipt| -> Vec<u64> {
        events.iter().zip(&receipts).filter(|(_, receipt)| **receipt == wanted).map(|(event, _)| event.seq).collect()
    };
    let mut write = state.store.write().await?;
    outbox::mark(&mut write, &with(Receipt::Confirmed), Sent::Confirmed).await?;
    outbox::mark(&mut write, &with(Receipt::Unrouted), Sent::Unrouted).await?;
    write.commit().await?;
    Ok(events.len())
}
