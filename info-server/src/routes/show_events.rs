use std::{sync::Arc, time::Duration};

use axum::{
    extract::State as Shared,
    http::{HeaderName, header},
};
use jiff::Timestamp;
use lifecycle::http::{Path, Query};
use serde::Deserialize;
use tokio::time::Instant;
use wire::{
    ServerId,
    event::{Event, Fact, LogHeader, SCHEMA, Stream},
    id::Epoch,
};

use crate::{
    app::State,
    caller::FileServer,
    error::{Error, Result, invalid},
    store::outbox::Reach,
};

/// Events in one answer; a reader further behind asks again.
const MAX_EVENTS: u32 = 1_000;
/// The longest long poll, in seconds.
const MAX_WAIT: u64 = 30;
/// How often to look even if nobody told of a commit.
const GLANCE: Duration = Duration::from_secs(1);
/// Revocations in one line of a snapshot.
const LINE: usize = 256;

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Cursor {
    /// The epoch that `after` counts in; without it the reader has nothing and gets a snapshot.
    epoch: Option<Epoch>,
    after: u64,
    /// Seconds to wait for something new.
    wait: u64,
}

const NDJSON: [(HeaderName, &str); 2] =
    [(header::CONTENT_TYPE, "application/x-ndjson"), (header::CACHE_CONTROL, "no-store")];

/// `GET /v1/servers/{id}/events?epoch=&after=&wait=`: a header line, then the events after the cursor or a snapshot.
pub(super) async fn show_events(
    Shared(state): Shared<Arc<State>>,
    caller: FileServer,
    Path(id): Path<ServerId>,
    Query(cursor): Query<Cursor>,
) -> Result<([(HeaderName, &'static str); 2], String)> {
    caller.must_be(&id)?;
    if cursor.wait > MAX_WAIT {
        return Err(invalid(format!("wait must be at most {MAX_WAIT} seconds")));
    }
    let zone = state.registry().get(&id).map(|server| server.zone.clone()).ok_or(Error::NotFound)?;
    let streams = Stream::of_server(&id, &zone);
    let epoch = state.store.epoch();
    if cursor.epoch != Some(epoch) {
        return Ok((NDJSON, snapshot(&state).await?));
    }
    let deadline = Instant::now() + Duration::from_secs(cursor.wait);
    let mut log = state.log.subscribe();
    loop {
        log.mark_unchanged();
        let (as_of, events) = match state.store.facts_after(&streams, cursor.after, MAX_EVENTS).await? {
            Reach::Facts { as_of, events } => (as_of, events),
            Reach::Trimmed => return Ok((NDJSON, snapshot(&state).await?)),
            Reach::Ahead => {
                tracing::error!(server = %id, after = cursor.after, "a file server has seen more events than there are: the database was put back, a new epoch begins");
                state.store.begin_epoch(epoch).await?;
                return Ok((NDJSON, snapshot(&state).await?));
            }
        };
        let stopping = state.shutdown.finishing().is_cancelled();
        if !events.is_empty() || stopping || Instant::now() >= deadline {
            let header = LogHeader { epoch, as_of, snapshot: false };
            return Ok((NDJSON, lines(&header, &events)?));
        }
        tokio::select! {
            changed = log.changed() => changed?,
            // Another process may have written, or a requester may have hung up before its commit was told of.
            () = tokio::time::sleep_until(deadline.min(Instant::now() + GLANCE)) => {}
            () = state.shutdown.finishing().cancelled() => {}
        }
    }
}

/// The present state, for a reader whose cursor means nothing any more: what must not be honoured or kept.
///
/// Grants are left out: a file server asks for the tokens that it has not heard of.
async fn snapshot(state: &State) -> Result<String> {
    let as_of = state.store.last_seq().await?;
    let now = Timestamp::now();
    let revocations = state.store.live_revocations(now).await?;
    let deleted = state.store.deleted().await?;
    let epoch = state.store.epoch();
    let facts = revocations.chunks(LINE).map(|tokens| Fact::TokenRevoked { tokens: tokens.to_vec() });
    let facts = facts.chain(deleted.into_iter().map(|file| Fact::FileDeleted { file }));
    // What is ended stands however it is ordered; a snapshot of an empty log still needs a number.
    let seq = as_of.max(1);
    let events: Vec<Event> =
        facts.map(|fact| Event { schema: SCHEMA, epoch, stream: Stream::All, prev: 0, seq, at: now, fact }).collect();
    lines(&LogHeader { epoch, as_of, snapshot: true }, &events)
}

fn lines(header: &LogHeader, events: &[Event]) -> Result<String> {
    let mut text = serde_json::to_string(header)?;
    for event in events {
        text.push('\n');
        text.push_str(&serde_json::to_string(event)?);
    }
    text.push('\n');
    Ok(text)
}
