//! Events from the info-server to the file servers.
//!
//! Events run in *streams*: one for each zone, one for each server, one for all. `seq` ascends over all streams of an epoch, so
//! it is also the version of the event's subject: the highest one wins, and duplicates, reordering and replays change nothing.
//! `prev` is the `seq` of the event before it in the same stream. A consumer whose cursor is below `prev` has missed an event and
//! reads the log over HTTP.

use std::{fmt, str::FromStr};

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{
    Digest, FileId, JobId, Label, ServerId, Zone,
    id::Epoch,
    token::{Grant, Revocation},
};

/// Major version of the event envelope that this build reads and writes.
pub const SCHEMA: u32 = 1;

/// Stream of events: `zone.<zone>`, `server.<id>` or `all`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stream {
    /// Events for the file servers of one zone.
    Zone(Zone),
    /// Events for one file server.
    Server(ServerId),
    /// Events for every file server.
    All,
}

/// Error of a text that is not a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a stream is 'zone.<zone>', 'server.<id>' or 'all'")]
pub struct StreamError;

impl Stream {
    /// Returns the three streams of one file server.
    pub fn of_server(server: &ServerId, zone: &Zone) -> [Self; 3] {
        [Self::Zone(zone.clone()), Self::Server(server.clone()), Self::All]
    }

    /// Returns the last word of the routing key.
    fn audience(&self) -> &str {
        match self {
            Self::Zone(label) | Self::Server(label) => label.as_str(),
            Self::All => "all",
        }
    }
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Zone(zone) => write!(f, "zone.{zone}"),
            Self::Server(server) => write!(f, "server.{server}"),
            Self::All => f.write_str("all"),
        }
    }
}

impl FromStr for Stream {
    type Err = StreamError;

    fn from_str(text: &str) -> Result<Self, StreamError> {
        let label = |text: &str| text.parse::<Label>().map_err(|_| StreamError);
        match text.split_once('.') {
            Some(("zone", zone)) => label(zone).map(Self::Zone),
            Some(("server", server)) => label(server).map(Self::Server),
            None if text == "all" => Ok(Self::All),
            _ => Err(StreamError),
        }
    }
}

impl Serialize for Stream {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Stream {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// Message: a payload with its position in a stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Major version of the envelope.
    pub schema: u32,
    /// Epoch of the info-server's database that `seq` belongs to.
    pub epoch: Epoch,
    /// Stream of the event.
    pub stream: Stream,
    /// `seq` of the event before it in the same stream, 0 for the first.
    pub prev: u64,
    /// Sequence number, ascending over all streams of the epoch.
    pub seq: u64,
    /// Time of the commit.
    pub at: Timestamp,
    /// Type and members of the event.
    #[serde(flatten)]
    pub payload: EventPayload,
}

/// Type and members of an event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum EventPayload {
    /// Tokens issued by one group commit.
    #[serde(rename = "token.granted")]
    TokenGranted {
        /// Grants; each names its own file and zones.
        grants: Vec<Grant>,
    },
    /// Tokens revoked before they expired.
    #[serde(rename = "token.revoked")]
    TokenRevoked {
        /// Revoked tokens.
        tokens: Vec<Revocation>,
    },
    /// File that became available: its content is final.
    #[serde(rename = "file.published")]
    FilePublished {
        /// Identifier of the file.
        file: FileId,
        /// Size of the file in bytes.
        size: u64,
        /// Size in bytes of every chunk but the last.
        chunk_size: u64,
        /// SHA-256 of the concatenated chunk digests.
        root: Digest,
        /// SHA-256 of the content.
        sha256: Digest,
    },
    /// File to be deleted on every server.
    #[serde(rename = "file.deleted")]
    FileDeleted {
        /// Identifier of the file.
        file: FileId,
    },
    /// File of which this server is to hold a replica.
    #[serde(rename = "replica.assigned")]
    ReplicaAssigned {
        /// Identifier of the file.
        file: FileId,
    },
    /// File of which this server is to delete its replica.
    #[serde(rename = "replica.removed")]
    ReplicaRemoved {
        /// Identifier of the file.
        file: FileId,
    },
    /// Hint that spans of a job wait for workers. It is repeated while that is so; the info-server alone decides which
    /// worker receives which span.
    #[serde(rename = "ddm.spans")]
    SpansWaiting {
        /// Identifier of the job.
        job: JobId,
    },
    /// Type added by a later minor version. It advances the cursor and has no other effect.
    #[serde(other)]
    Unknown,
}

impl EventPayload {
    /// Returns the dotted name of the type.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::TokenGranted { .. } => "token.granted",
            Self::TokenRevoked { .. } => "token.revoked",
            Self::FilePublished { .. } => "file.published",
            Self::FileDeleted { .. } => "file.deleted",
            Self::ReplicaAssigned { .. } => "replica.assigned",
            Self::ReplicaRemoved { .. } => "replica.removed",
            Self::SpansWaiting { .. } => "ddm.spans",
            Self::Unknown => "unknown",
        }
    }

    /// Returns the routing key on the topic exchange: the type, then the audience of the stream.
    pub fn routing_key(&self, stream: &Stream) -> String {
        format!("{}.{}", self.name(), stream.audience())
    }
}

/// Returns the routing keys that a file server's queue is bound to.
pub fn bindings(server: &ServerId, zone: &Zone) -> [String; 7] {
    [
        format!("token.granted.{zone}"),
        "token.revoked.all".to_owned(),
        format!("file.published.{zone}"),
        "file.deleted.all".to_owned(),
        format!("replica.assigned.{server}"),
        format!("replica.removed.{server}"),
        format!("ddm.spans.{zone}"),
    ]
}

/// Error of a message that cannot be read. Such a message is dead-lettered, never applied in part.
#[derive(Debug, thiserror::Error)]
pub enum EventError {
    /// The body is not JSON of the known form.
    #[error("not an event: {0}")]
    Malformed(#[from] serde_json::Error),
    /// The major version is not known to this build.
    #[error("event schema {0} is not known here, only {SCHEMA}")]
    Schema(u32),
    /// `seq` does not follow `prev`.
    #[error("event {seq} claims to follow {prev}")]
    Order {
        /// Claimed predecessor.
        prev: u64,
        /// Sequence number of the event.
        seq: u64,
    },
}

impl Event {
    /// Parses a message body.
    ///
    /// # Errors
    /// [`EventError`]. The schema is checked before the rest, so that a newer major version is reported as such.
    pub fn parse(body: &[u8]) -> Result<Self, EventError> {
        #[derive(Deserialize)]
        struct EventHeader {
            schema: u32,
        }
        let EventHeader { schema } = serde_json::from_slice(body)?;
        if schema != SCHEMA {
            return Err(EventError::Schema(schema));
        }
        let event: Self = serde_json::from_slice(body)?;
        // SQLite counts in 63 bits; a number beyond them would also end a cursor's life.
        if event.prev >= event.seq || i64::try_from(event.seq).is_err() {
            return Err(EventError::Order { prev: event.prev, seq: event.seq });
        }
        Ok(event)
    }
}

/// First line of the answer of `GET /v1/servers/{id}/events` (NDJSON). One [`Event`] per line follows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogHeader {
    /// Epoch of the lines that follow.
    pub epoch: Epoch,
    /// Sequence number up to which the reader has all events of its streams, once it has applied the lines that follow.
    pub as_of: u64,
    /// Set if the lines are a snapshot of the current state, because the log after the cursor was trimmed, instead of
    /// the events after the cursor.
    pub snapshot: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Event {
        Event {
            schema: SCHEMA,
            epoch: Epoch::new(),
            stream: Stream::Zone("eu".parse().unwrap()),
            prev: 3,
            seq: 9,
            at: Timestamp::UNIX_EPOCH,
            payload: EventPayload::FileDeleted { file: FileId::new() },
        }
    }

    #[test]
    fn an_event_reads_back() {
        let event = sample();
        assert_eq!(Event::parse(&serde_json::to_vec(&event).unwrap()).unwrap(), event);
        assert_eq!(event.payload.routing_key(&Stream::All), "file.deleted.all");
    }

    #[test]
    fn unknown_fields_and_types_are_passed_over_and_unknown_majors_are_not() {
        let mut value = serde_json::to_value(sample()).unwrap();
        value["later"] = 7.into();
        value["type"] = "file.renamed".into();
        assert_eq!(Event::parse(value.to_string().as_bytes()).unwrap().payload, EventPayload::Unknown);
        value["schema"] = 2.into();
        value["epoch"] = serde_json::Value::Null;
        assert!(matches!(Event::parse(value.to_string().as_bytes()), Err(EventError::Schema(2))));
    }

    #[test]
    fn numbers_that_do_not_ascend_are_refused() {
        for (prev, seq) in [(9, 9), (10, 9), (0, 0), (0, u64::MAX)] {
            let body = serde_json::to_vec(&Event { prev, seq, ..sample() }).unwrap();
            assert!(matches!(Event::parse(&body), Err(EventError::Order { .. })), "{prev} {seq}");
        }
        for body in [&b""[..], b"{}", b"[]", b"\xff", b"{\"schema\":\"1\"}"] {
            assert!(matches!(Event::parse(body), Err(EventError::Malformed(_))));
        }
    }
}
