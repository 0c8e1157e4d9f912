//! Errors of a bus.

/// Error of a bus. No variant contains the address of the broker, which holds a password.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// The address of the broker is not valid.
    #[error("the broker's address is not of the form amqp[s]://user:password@host:port/vhost: {0}")]
    Address(&'static str),
    /// Missing connection to the broker.
    #[error("the broker is not connected")]
    Unavailable,
    /// The broker accepts no messages, because it is short of disk or memory.
    #[error("the broker blocks publishers ({alarm}): give it memory or disk, see `rabbitmqctl status`")]
    Blocked {
        /// Reason that the broker gave.
        alarm: String,
    },
    /// A node of the broker failed.
    #[error("{host}: {source}")]
    Node {
        /// Host and port.
        host: String,
        /// Its failure.
        source: Box<Self>,
    },
    /// The broker did not answer in time.
    #[error("no answer from the broker in time: {0}")]
    Deadline(&'static str),
    /// The broker did not confirm a message because confirms are off.
    #[error("the broker refused a message")]
    Refused,
    /// The broker ended the subscription.
    #[error("the broker cancelled the subscription")]
    Cancelled,
    /// The broker reported an error, or the connection to it failed.
    #[error("{text}")]
    Broker {
        /// AMQP reply code, if the broker sent one.
        code: Option<u16>,
        /// Description of the error.
        text: String,
    },
    /// The queue of dead-lettered messages is not the one that DDM declares.
    #[error(
        "the queue ddm.dead is not the bounded quorum queue that DDM declares, so messages that no server can read may be lost in \
         it ({0}): move what it holds elsewhere and delete it; it is declared again within half a minute"
    )]
    DeadLetters(#[source] Box<Self>),
    /// The event log could not be read.
    #[error("cannot read the event log: {0}")]
    Log(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The bus was created for publishing and has no log to subscribe to.
    #[error("this bus publishes only: it has no log to subscribe to")]
    NoLog,
}

impl BusError {
    /// Returns true if the broker answered with this AMQP reply code.
    pub(crate) fn is_reply(&self, wanted: u16) -> bool {
        self.code() == Some(wanted)
    }

    /// Returns the AMQP reply code, if the broker sent one.
    pub(crate) fn code(&self) -> Option<u16> {
        match self {
            Self::Broker { code, .. } => *code,
            Self::Node { source, .. } | Self::DeadLetters(source) => source.code(),
            _ => None,
        }
    }

    /// Returns true if a declaration was refused because what is there has other properties.
    pub(crate) fn is_other_kind(&self) -> bool {
        // The same code is used where a limit of the virtual host is reached.
        matches!(self, Self::Broker { code: Some(406), text } if text.contains("inequivalent"))
    }

    /// Returns a word for the kind, for metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Address(_) => "address",
            Self::Unavailable | Self::Broker { code: None, .. } => "unreachable",
            Self::Blocked { .. } => "alarm",
            Self::Node { source, .. } | Self::DeadLetters(source) => source.kind(),
            Self::Deadline(_) => "no-answer",
            Self::Broker { code: Some(403), .. } => "access-refused",
            Self::Broker { code: Some(404 | 530), .. } => "not-found",
            Self::Broker { code: Some(406), .. } => "precondition",
            Self::Broker { .. } | Self::Refused | Self::Cancelled => "broker",
            Self::Log(_) | Self::NoLog => "log",
        }
    }
}
