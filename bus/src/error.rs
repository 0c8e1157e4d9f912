//! What can go wrong between us and a transport.

/// Why the bus did not do what it was asked to. No variant carries the address of the broker, which holds a password.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// The address of the broker cannot be used.
    #[error("the broker's address is not of the form amqp[s]://user:password@host:port/vhost: {0}")]
    Address(&'static str),
    /// Not connected (yet, or any more).
    #[error("the broker is not connected")]
    Unavailable,
    /// The broker takes no messages: it is short of disk or memory.
    #[error("the broker blocks publishers (disk or memory alarm)")]
    Blocked,
    /// The broker did not answer in time.
    #[error("no answer from the broker in time: {0}")]
    Deadline(&'static str),
    /// The broker did not take responsibility for a message.
    #[error("the broker refused a message")]
    Refused,
    /// The broker ended the subscription.
    #[error("the broker cancelled the subscription")]
    Cancelled,
    /// The broker or the connection to it failed.
    #[error("{text}")]
    Broker {
        /// The AMQP reply code, when it was the broker that complained.
        code: Option<u16>,
        /// What happened.
        text: String,
    },
    /// The log could not be read.
    #[error("cannot read the event log: {0}")]
    Log(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Subscribing to an outbox that was made for publishing.
    #[error("this outbox has no log to follow")]
    NoLog,
}

impl BusError {
    /// Whether the broker answered with this AMQP reply code.
    pub(crate) fn is_reply(&self, wanted: u16) -> bool {
        matches!(self, Self::Broker { code: Some(code), .. } if *code == wanted)
    }
}

impl From<lapin::Error> for BusError {
    fn from(error: lapin::Error) -> Self {
        let code = match error.kind() {
            lapin::ErrorKind::ProtocolError(reply) => Some(reply.get_id()),
            _ => None,
        };
        Self::Broker { code, text: error.to_string() }
    }
}
