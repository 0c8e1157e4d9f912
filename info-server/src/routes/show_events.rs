use std::{sync::Arc, time::Duration};

use axum::{
    extract::State as Shared,
    http::{HeaderName, header},
};
use jiff::Timestamp;
use lifecycle::http::{Path, Query};
use serde::Deserialize;
use tokio::time::Instant;
use utoipa::IntoParams;
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

#[derive(Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default)]
pub(super) struct Cursor {
    /// The epoch that `after` counts in; without it the reader has nothing and gets a snapshot.
    epoch: Option<Epoch>,
    /// The number of the last event that was seen.
    after: u64,
    /// The highest number that the reader has seen, if that is beyond `after`.
    seen: u64,
    /// Seconds to wait for something new.
    #[param(maximum = 30)]
    wait: u64,
    /// Answer the header alone, with `as_of` the newest number of the facts for all, once that is beyond `after`: for whoever
    /// gets facts another way, and looks whether any is late.
    notice: bool,
}

const NDJSON: [(HeaderName, &str); 2] =
    [(header::CONTENT_TYPE, "application/x-ndjson"), (header::CACHE_CONTROL, "no-store")];

/// `GET /v1/servers/{id}/events?epoch=&after=&wait=`: a header line, then the events after the cursor or a snapshot.
#[utoipa::path(
    get,
    path = "/v1/servers/{id}/events",
    tag = "File servers",
    params(("id" = ServerId, Path, description = "The server"), Cursor), security(("server" = [])),
    responses((status = 200, description = "A header line, then one event a line", body = String, content_type = "application/x-ndjson"))
)]
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
    if cursor.notice {
        return Ok((NDJSON, lines(&notice(&state, &cursor).await, &[])?));
    }
    if cursor.epoch != Some(epoch) {
        return Ok((NDJSON, snapshot(&state, &id).await?));
    }
    let deadline = Instant::now() + Duration::from_secs(cursor.wait);
    let mut log = state.log.subscribe();
    loop {
        log.mark_unchanged();
        let (as_of, events) = match state.store.facts_after(&streams, (cursor.after, cursor.seen), MAX_EVENTS).await? {
            Reach::Facts { as_of, events } => (as_of, events),
            Reach::Trimmed => return Ok((NDJSON, snapshot(&state, &id).await?)),
            Reach::Ahead => {
                tracing::error!(server = %id, after = cursor.after.max(cursor.seen), "a file server has seen more events than there are: the database was put back, a new epoch begins");
                state.store.begin_epoch(epoch).await?;
                return Ok((NDJSON, snapshot(&state, &id).await?));
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

/// Waits until the facts for all reach beyond the cursor.
async fn notice(state: &State, cursor: &Cursor) -> LogHeader {
    let deadline = Instant::now() + Duration::from_secs(cursor.wait);
    let mut for_all = state.log.for_all();
    loop {
        let (as_of, epoch) = (*for_all.borrow_and_update(), state.store.epoch());
        let news = as_of > cursor.after || cursor.epoch != Some(epoch);
        if news || Instant::now() >= deadline || state.shutdown.finishing().is_cancelled() {
            return LogHeader { epoch, as_of, snapshot: false };
        }
        tokio::select! {
            // The sender is the state's own: it does not go while that is there.
            _ = for_all.changed() => {}
            () = tokio::time::sleep_until(deadline) => {}
            () = state.shutdown.finishing().cancelled() => {}
        }
    }
}

/// The present state, for a reader whose cursor means nothing any more: what must not be honoured or taken in, and what is to
/// be held.
///
/// Grants are left out: a file server asks for the tokens that it has not heard of. So are files that were deleted, but for
/// those that an upload token could still bring: a file server asks about the files that it holds.
async fn snapshot(state: &State, server: &ServerId) -> Result<String> {
    let as_of = state.store.last_seq().await?;
    let now = Timestamp::now();
    let revocations = state.store.live_revocations(now).await?;
    let deleted = state.store.deleted(now.checked_sub(state.config.access.upload_lifetime)?).await?;
    let assigned = state.store.assigned_to(server, u32::MAX).await?;
    let epoch = state.store.epoch();
    let facts = revocations.chunks(LINE).map(|tokens| Fact::TokenRevoked { tokens: tokens.to_vec() });
    let facts = facts.chain(deleted.into_iter().map(|file| Fact::FileDeleted { file }));
    // What is ended stands however it is ordered; a snapshot of an empty log still needs a number.
    let seq = as_of.max(1);
    let facts = facts.map(|fact| (Stream::All, fact));
    let assigned = assigned.into_iter().map(|file| (Stream::Server(server.clone()), Fact::ReplicaAssigned { file }));
    let events: Vec<Event> = facts
        .chain(assigned)
        .map(|(stream, fact)| Event { schema: SCHEMA, epoch, stream, prev: 0, seq, at: now, fact })
        .collect();
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
