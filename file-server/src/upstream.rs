//! Reports to the info-server: identity, address, heartbeat and replicas; and the clock that the heartbeat sets.

pub(crate) mod advertised_address;
pub(crate) mod clock;
pub(crate) mod identity;
pub(crate) mod registration;
pub(crate) mod reports;
