//! The outbox: events on their way to the file servers, committed together with the fact that they are about. It is also the log
//! that file servers read.

use std::collections::BTreeMap;

use futures::TryStreamExt as _;
use jiff::Timestamp;
use sqlx::{Row as _, SqliteConnection, sqlite::SqliteRow};
use wire::{
    event::{Event, EventPayload, SCHEMA, Stream},
    id::Epoch,
};

use crate::db::{
    Database, Write,
    columns::{corrupt, from_millis, to_i64, to_u64},
};

/// Bytes of payload in one answer of the log; a reader further behind asks again.
const MAX_ANSWER_BYTES: usize = 4 << 20;

/// The answer of the log to a reader's cursor.
#[derive(Debug)]
pub enum LogRead {
    /// Everything after the cursor, up to a number.
    Events {
        /// The number.
        as_of: u64,
        /// The events, in order.
        events: Vec<Event>,
    },
    /// Some of it was deleted.
    Trimmed,
    /// The reader has seen more than there is.
    Ahead,
}

/// The position of a reader in the log.
#[derive(Debug, Clone, Copy)]
pub struct LogCursor {
    /// Number of the last event that the reader took in.
    pub after: u64,
    /// The highest number that it has received, if that is beyond `after`.
    pub seen: u64,
}

/// Events that wait for the bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backlog {
    /// Number of events.
    pub events: u64,
    /// Time of the oldest.
    pub oldest: Option<Timestamp>,
}

/// Outcome of an event on the bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// The broker took it for at least one queue.
    Confirmed,
    /// No queue was bound for it, or one did not confirm it; the log covers it.
    Unrouted,
}

/// Appends an event to a stream; it becomes visible with `write`. Returns its number.
///
/// # Errors
/// The database's.
pub async fn append(write: &mut Write, stream: &Stream, fact: &EventPayload, now: Timestamp) -> sqlx::Result<u64> {
    let name = stream.to_string();
    let text = serde_json::to_string(fact).map_err(corrupt)?;
    let seq: i64 = sqlx::query_scalar(
        "insert into outbox (stream, prev, at, fact)
         values (?1, coalesce((select seq from streams where stream = ?1), 0), ?2, ?3) returning seq",
    )
    .bind(&name)
    .bind(now.as_millisecond())
    .bind(text)
    .fetch_one(&mut **write)
    .await?;
    sqlx::query(
        "insert into streams (stream, seq) values (?, ?) on conflict (stream) do update set seq = excluded.seq",
    )
    .bind(&name)
    .bind(seq)
    .execute(&mut **write)
    .await?;
    to_u64(seq)
}

/// Stores the outcome of some events on the bus.
///
/// # Errors
/// The database's.
pub async fn mark(write: &mut Write, seqs: &[u64], sent: Sent) -> sqlx::Result<()> {
    let list = serde_json::to_string(seqs).map_err(corrupt)?;
    sqlx::query("update outbox set sent = ? where seq in (select value from json_each(?))")
        .bind(match sent {
            Sent::Confirmed => 1,
            Sent::Unrouted => 2,
        })
        .bind(list)
        .execute(&mut **write)
        .await?;
    Ok(())
}

/// Deletes events older than `before`; readers further behind get a snapshot instead. Those that still wait for the bus go
/// too: a broker that is away for weeks must not fill the disk, and file servers that receive nothing from it read the log.
///
/// # Errors
/// The database's.
pub async fn trim(write: &mut Write, before: Timestamp, most: u32) -> sqlx::Result<u64> {
    let trimmed = sqlx::query(
        "delete from outbox where seq in
             (select seq from (select seq, at from outbox order by seq limit ?) where at < ?) returning stream, seq",
    )
    .bind(most)
    .bind(before.as_millisecond())
    .fetch_all(&mut **write)
    .await?;
    let mut newest: BTreeMap<String, i64> = BTreeMap::new();
    for row in &trimmed {
        let (stream, seq): (String, i64) = (row.try_get(0)?, row.try_get(1)?);
        newest.entry(stream).and_modify(|known| *known = seq.max(*known)).or_insert(seq);
    }
    for (stream, seq) in newest {
        sqlx::query("update streams set trimmed_to = max(trimmed_to, ?) where stream = ?")
            .bind(seq)
            .bind(stream)
            .execute(&mut **write)
            .await?;
    }
    Ok(trimmed.len() as u64)
}

impl Database {
    /// Returns the oldest events that wait for the bus.
    ///
    /// # Errors
    /// The database's.
    pub async fn waiting(&self, most: u32) -> sqlx::Result<Vec<Event>> {
        let rows = sqlx::query("select seq, stream, prev, at, fact from outbox where sent = 0 order by seq limit ?")
            .bind(most)
            .fetch_all(self.readers())
            .await?;
        let epoch = self.epoch();
        rows.iter().map(|row| read_event(row, epoch)).collect()
    }

    /// Counts the events that wait for the bus.
    ///
    /// # Errors
    /// The database's.
    pub async fn backlog(&self) -> sqlx::Result<Backlog> {
        let row = sqlx::query("select count(*), min(at) from outbox where sent = 0").fetch_one(self.readers()).await?;
        let oldest: Option<i64> = row.try_get(1)?;
        Ok(Backlog { events: to_u64(row.try_get(0)?)?, oldest: oldest.map(from_millis).transpose()? })
    }

    /// Returns the events of some streams after a cursor, in order, and the number up to which they are all.
    ///
    /// # Errors
    /// The database's.
    pub async fn events_after(&self, streams: &[Stream], cursor: LogCursor, most: u32) -> sqlx::Result<LogRead> {
        let LogCursor { after, seen } = cursor;
        let epoch = self.epoch();
        let mut read = self.readers().begin().await?;
        let names = serde_json::to_string(streams).map_err(corrupt)?;
        let gone: Option<i64> =
            sqlx::query_scalar("select max(trimmed_to) from streams where stream in (select value from json_each(?))")
                .bind(&names)
                .fetch_one(&mut *read)
                .await?;
        let last = last_seq(&mut read).await?;
        if after.max(seen) > last {
            return Ok(LogRead::Ahead);
        }
        if after < to_u64(gone.unwrap_or(0))? {
            return Ok(LogRead::Trimmed);
        }
        let mut rows = sqlx::query(
            "select seq, stream, prev, at, fact from outbox
             where stream in (select value from json_each(?)) and seq > ? order by seq limit ?",
        )
        .bind(names)
        .bind(to_i64(after))
        .bind(most)
        .fetch(&mut *read);
        let (mut events, mut bytes, mut all) = (Vec::new(), 0, true);
        while let Some(row) = rows.try_next().await? {
            if bytes > MAX_ANSWER_BYTES {
                all = false;
                break;
            }
            bytes += row.try_get::<&str, _>(4)?.len();
            events.push(read_event(&row, epoch)?);
        }
        all &= u32::try_from(events.len()).is_ok_and(|count| count < most);
        let as_of = events.last().filter(|_| !all).map_or(last, |event: &Event| event.seq);
        Ok(LogRead::Events { as_of, events })
    }

    /// Returns the number of the newest event.
    ///
    /// # Errors
    /// The database's.
    pub async fn last_seq(&self) -> sqlx::Result<u64> {
        last_seq(&mut *self.readers().acquire().await?).await
    }

    /// Returns the newest number of each of some streams, and of all streams, at one moment.
    ///
    /// # Errors
    /// The database's.
    pub async fn newest(&self, streams: &[Stream]) -> sqlx::Result<(BTreeMap<Stream, u64>, u64)> {
        let mut read = self.readers().begin().await?;
        let last = last_seq(&mut read).await?;
        let names = serde_json::to_string(streams).map_err(corrupt)?;
        let rows = sqlx::query("select stream, seq from streams where stream in (select value from json_each(?))")
            .bind(names)
            .fetch_all(&mut *read)
            .await?;
        let mut newest: BTreeMap<Stream, u64> = streams.iter().map(|stream| (stream.clone(), 0)).collect();
        for row in rows {
            let stream: Stream = row.try_get::<&str, _>(0)?.parse().map_err(corrupt)?;
            newest.insert(stream, to_u64(row.try_get(1)?)?);
        }
        Ok((newest, last))
    }
}

async fn last_seq(connection: &mut SqliteConnection) -> sqlx::Result<u64> {
    let seq: Option<i64> =
        sqlx::query_scalar("select seq from sqlite_sequence where name = 'outbox'").fetch_optional(connection).await?;
    to_u64(seq.unwrap_or(0))
}

fn read_event(row: &SqliteRow, epoch: Epoch) -> sqlx::Result<Event> {
    Ok(Event {
        schema: SCHEMA,
        epoch,
        seq: to_u64(row.try_get(0)?)?,
        stream: row.try_get::<&str, _>(1)?.parse().map_err(corrupt)?,
        prev: to_u64(row.try_get(2)?)?,
        at: from_millis(row.try_get(3)?)?,
        payload: serde_json::from_str(row.try_get(4)?).map_err(corrupt)?,
    })
}
