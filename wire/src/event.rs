//! Facts that flow from the info-server down to the file servers.
//!
//! Facts run in *streams*: one per zone, one per server, one for all. `seq` is one ascending number over all streams of an
//! epoch, so it is also the version of whatever a fact is about: the highest one wins, and duplicates, reordering and
//! replays change nothing. `prev` is the `seq` before it in the same stream: a consumer that has seen less than `prev` has
//! missed something and catches up over HTTP.

use std::{fmt, str::FromStr};

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{
    Digest, FileId, JobId, Label, ServerId, Zone,
    id::Epoch,
    token::{Grant, Revocation},
};

/// The major version of the envelope that this build reads and writes.
pub const SCHEMA: u32 = 1;

/// A stream of facts: `zone.<zone>`, `server.<id>` or `all`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stream {
    /// For the servers of one zone.
    Zone(Zone),
    /// For one server.
    Server(ServerId),
    /// For every server.
    All,
}

/// Why a text is not a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a stream is 'zone.<zone>', 'server.<id>' or 'all'")]
pub struct StreamError;

impl Stream {
    /// The three streams that concern one server.
    pub fn of_server(server: &ServerId, zone: &Zone) -> [Self; 3] {
        [Self::Zone(zone.clone()), Self::Server(server.clone()), Self::All]
    }

    /// The last word of a routing key.
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

/// One message: a fact and its place in its stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Major version of this form.
    pub schema: u32,
    /// The life of the info-server's database that `seq` counts in.
    pub epoch: Epoch,
    /// Whom it concerns.
    pub stream: Stream,
    /// The `seq` before it in the same stream, 0 for the first.
    pub prev: u64,
    /// Its own number, ascending over all streams of the epoch.
    pub seq: u64,
    /// When it was committed.
    pub at: Timestamp,
    /// What happened.
    #[serde(flatten)]
    pub fact: Fact,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum Fact {
    /// Tokens of one group commit.
    #[serde(rename = "token.granted")]
    TokenGranted {
        /// The grants; each names its own file and zones.
        grants: Vec<Grant>,
    },
    /// Tokens that end before their time.
    #[serde(rename = "token.revoked")]
    TokenRevoked {
        /// The tokens.
        tokens: Vec<Revocation>,
    },
    /// A file became available: its content is fixed and known.
    #[serde(rename = "file.published")]
    FilePublished {
        /// The file.
        file: FileId,
        /// Bytes in it.
        size: u64,
        /// Bytes in every chunk but the last.
        chunk_size: u64,
        /// SHA-256 of the concatenated chunk digests.
        root: Digest,
        /// SHA-256 of the content.
        sha256: Digest,
    },
    /// A file is to be forgotten everywhere.
    #[serde(rename = "file.deleted")]
    FileDeleted {
        /// The file.
        file: FileId,
    },
    /// This server is to hold a replica.
    #[serde(rename = "replica.assigned")]
    ReplicaAssigned {
        /// The file.
        file: FileId,
    },
    /// This server is to drop its replica.
    #[serde(rename = "replica.removed")]
    ReplicaRemoved {
        /// The file.
        file: FileId,
    },
    /// There is work: spans of a job wait for workers. A hint that repeats while that is so; the info-server alone decides
    /// who gets what.
    #[serde(rename = "ddm.spans")]
    SpansWaiting {
        /// The job.
        job: JobId,
    },
    /// A type that a later minor version added: it moves the cursor and changes nothing else.
    #[serde(other)]
    Unknown,
}

impl Fact {
    /// The dotted name of the fact's type.
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

    /// The routing key on the topic exchange: the type, then the audience of the stream.
    pub fn routing_key(&self, stream: &Stream) -> String {
        format!("{}.{}", self.name(), stream.audience())
    }
}

/// The routing keys that a file server's queue is bound to.
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

/// Why a message cannot be read; such a message is set aside, never applied in part.
#[derive(Debug, thiserror::Error)]
pub enum EventError {
    /// Not JSON of the known form.
    #[error("not an event: {0}")]
    Malformed(#[from] serde_json::Error),
    /// A form that this build does not know.
    #[error("event schema {0} is not known here, only {SCHEMA}")]
    Schema(u32),
    /// `seq` does not follow `prev`.
    #[error("event {seq} claims to follow {prev}")]
    Order {
        /// The claimed predecessor.
        prev: u64,
        /// Its own number.
        seq: u64,
    },
}

impl Event {
    /// Reads a message body.
    ///
    /// # Errors
    /// [`EventError`]; the schema is looked at before the rest, so that a newer major version is named as such.
    pub fn parse(body: &[u8]) -> Result<Self, EventError> {
        #[derive(Deserialize)]
        struct Header {
            schema: u32,
        }
        let Header { schema } = serde_json::from_slice(body)?;
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

/// The first line of an answer of `GET /v1/servers/{id}/events` (NDJSON); one [`Event`] a line follows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogHeader {
    /// The epoch of everything that follows.
    pub epoch: Epoch,
    /// After the lines that follow, the reader is up to date with every stream of its own up to this number.
    pub as_of: u64,
    /// Whether the lines are the present state (the log after the cursor is gone) and not what came after the cursor.
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
            fact: Fact::FileDeleted { file: FileId::new() },
        }
    }

    #[test]
    fn an_event_reads_back() {
        let event = sample();
        assert_eq!(Event::parse(&serde_json::to_vec(&event).unwrap()).unwrap(), event);
        assert_eq!(event.fact.routing_key(&Stream::All), "file.deleted.all");
    }

    #[test]
    fn unknown_fields_and_types_are_passed_over_and_unknown_majors_are_not() {
        let mut value = serde_json::to_value(sample()).unwrap();
        value["later"] = 7.into();
        value["type"] = "file.renamed".into();
        assert_eq!(Event::parse(value.to_string().as_bytes()).unwrap().fact, Fact::Unknown);
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
