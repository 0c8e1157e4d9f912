use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use axum::{
    extract::State as Shared,
    http::{HeaderName, header},
};
use http_front::extract::{Path, Query};
use serde::Deserialize;
use tokio::time::Instant;
use utoipa::IntoParams;
use wire::{
    ServerId,
    event::{Event, LogHeader, Stream},
    id::Epoch,
};

use crate::{
    error::{Error, Result, invalid},
    events::{
        outbox::{LogCursor, LogRead},
        snapshot,
    },
    http::auth::FileServer,
    state::State,
};

/// Events in one answer; a reader further behind asks again.
const MAX_EVENTS: u32 = 1_000;
/// The longest long poll, in seconds.
const MAX_WAIT_S: u64 = 30;
/// Time after which the log is read even if no commit was announced.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

#[derive(Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default)]
pub(crate) struct Cursor {
    /// The epoch that `after` counts in; without it the reader has nothing and gets a snapshot.
    epoch: Option<Epoch>,
    /// The number of the last event that was seen.
    after: u64,
    /// The highest number that the reader has seen, if that is beyond `after`.
    seen: u64,
    /// Seconds to wait for something new.
    #[param(maximum = 30)]
    wait: u64,
    /// Answer the header alone, with `as_of` the newest number of the stream for all servers, once that is beyond `after`: for a reader that
    /// gets events another way and watches for late ones.
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
pub(crate) async fn show_events(
    Shared(state): Shared<Arc<State>>,
    caller: FileServer,
    Path(id): Path<ServerId>,
    Query(cursor): Query<Cursor>,
) -> Result<([(HeaderName, &'static str); 2], String)> {
    caller.must_be(&id)?;
    if cursor.wait > MAX_WAIT_S {
        return Err(invalid(format!("wait must be at most {MAX_WAIT_S} seconds")));
    }
    let zone = state.registry().get(&id).map(|server| server.zone.clone()).ok_or(Error::NotFound)?;
    let streams = Stream::of_server(&id, &zone);
    let epoch = state.db.epoch();
    if cursor.notice {
        return Ok((NDJSON, lines(&notice(&state, &cursor).await, &[])?));
    }
    if cursor.epoch != Some(epoch) {
        return Ok((NDJSON, snapshot_lines(&state, &id).await?));
    }
    let deadline = Instant::now() + Duration::from_secs(cursor.wait);
    let position = LogCursor { after: cursor.after, seen: cursor.seen };
    let mut log = state.log.subscribe();
    loop {
        log.mark_unchanged();
        let (as_of, events) = match state.db.events_after(&streams, position, MAX_EVENTS).await? {
            LogRead::Events { as_of, events } => (as_of, events),
            LogRead::Trimmed => return Ok((NDJSON, snapshot_lines(&state, &id).await?)),
            LogRead::Ahead => {
                begin_epoch(&state, &id, epoch, cursor.after.max(cursor.seen)).await?;
                return Ok((NDJSON, snapshot_lines(&state, &id).await?));
            }
        };
        let stopping = state.shutdown.finishing().is_cancelled();
        if !events.is_empty() || stopping || Instant::now() >= deadline {
            let header = LogHeader { epoch, as_of, snapshot: false };
            return Ok((NDJSON, lines(&header, &events)?));
        }
        tokio::select! {
            changed = log.changed() => changed?,
            // Another process may have written, or a caller may have hung up before its commit was announced.
            () = tokio::time::sleep_until(deadline.min(Instant::now() + POLL_INTERVAL)) => {}
            () = state.shutdown.finishing().cancelled() => {}
        }
    }
}

/// Waits until the stream for all servers reaches beyond the cursor.
async fn notice(state: &State, cursor: &Cursor) -> LogHeader {
    let deadline = Instant::now() + Duration::from_secs(cursor.wait);
    let mut newest = state.log.subscribe_broadcast();
    loop {
        let (as_of, epoch) = (*newest.borrow_and_update(), state.db.epoch());
        let news = as_of > cursor.after || cursor.epoch != Some(epoch);
        if news || Instant::now() >= deadline || state.shutdown.finishing().is_cancelled() {
            return LogHeader { epoch, as_of, snapshot: false };
        }
        tokio::select! {
            // The sender is the state's own: it does not go while that is there.
            _ = newest.changed() => {}
            () = tokio::time::sleep_until(deadline) => {}
            () = state.shutdown.finishing().cancelled() => {}
        }
    }
}

/// Begins a new epoch if the database may have been put back. That happens only while no info-server runs: after the first report, this
/// process itself numbered all events of the epoch, and a reader that claims more is wrong. It gets a snapshot, and no other is affected.
async fn begin_epoch(state: &State, server: &ServerId, epoch: Epoch, seen: u64) -> Result<()> {
    if state.has_begun_epoch.swap(true, Ordering::Relaxed) {
        tracing::warn!(%server, seen, "File server {server} claims to have received events that this info-server did not send");
        return Ok(());
    }
    tracing::error!(%server, seen, "File server {server} has seen more events than there are: the database was put back, a new epoch begins");
    Ok(state.db.begin_epoch(epoch).await?)
}

/// Returns the present state, for a reader whose cursor means nothing any more.
async fn snapshot_lines(state: &State, server: &ServerId) -> Result<String> {
    let (header, events) = snapshot::take(state, server).await?;
    lines(&header, &events)
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
