//! The addresses of the broker: one for each node of a cluster, read again where they come from a file.

use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::address::Address;
use crate::BusError;

/// Reads the setting again, for a password that is changed while the program runs.
pub type ReadUrl = Box<dyn Fn() -> std::io::Result<String> + Send + Sync>;

/// Nodes of a broker, the one to try first in front.
pub(super) struct Broker {
    nodes: Mutex<Nodes>,
    read: Option<ReadUrl>,
}

#[derive(Debug, Default)]
struct Nodes {
    /// The text of the setting, without which a change is not noticed.
    text: String,
    addresses: Vec<Address>,
}

impl Broker {
    pub(super) fn new(text: &str, read: Option<ReadUrl>) -> Result<Self, BusError> {
        let nodes = Nodes { text: text.to_owned(), addresses: Address::parse_list(text)? };
        Ok(Self { nodes: Mutex::new(nodes), read })
    }

    /// Returns the addresses in the order in which they are to be tried.
    pub(super) fn addresses(&self) -> Vec<Address> {
        let read = self.read.as_ref().map(|read| read());
        let mut nodes = self.nodes();
        match read {
            Some(Ok(text)) if text != nodes.text => match Address::parse_list(&text) {
                Ok(addresses) => {
                    tracing::info!("Event bus: the broker's URL has changed and was read again");
                    *nodes = Nodes { text, addresses };
                }
                Err(error) => tracing::warn!(%error, "Event bus: the broker's new URL cannot be used: {error}"),
            },
            Some(Err(error)) => tracing::debug!(%error, "Event bus: the broker's URL cannot be read again"),
            Some(Ok(_)) | None => {}
        }
        nodes.addresses.clone()
    }

    /// Puts an address in front, because it answered.
    pub(super) fn prefer(&self, host: &str) {
        let mut nodes = self.nodes();
        if let Some(at) = nodes.addresses.iter().position(|address| address.host() == host) {
            nodes.addresses.rotate_left(at);
        }
    }

    fn nodes(&self) -> MutexGuard<'_, Nodes> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker").field("addresses", &self.nodes().addresses).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn passwords(broker: &Broker) -> Vec<String> {
        broker.addresses().iter().map(|address| address.uri().authority.userinfo.password.clone()).collect()
    }

    #[test]
    fn a_changed_file_counts_at_the_next_connection_and_a_broken_one_does_not() {
        let file = Arc::new(Mutex::new(Ok("amqp://u:one@h".to_owned())));
        let reading = file.clone();
        let read: ReadUrl = Box::new(move || {
            let text: &Result<String, std::io::ErrorKind> = &reading.lock().unwrap();
            text.clone().map_err(Into::into)
        });
        let broker = Broker::new("amqp://u:one@h", Some(read)).unwrap();
        assert_eq!(passwords(&broker), ["one"]);
        *file.lock().unwrap() = Ok("amqp://u:two@h,amqp://u:two@i".to_owned());
        assert_eq!(passwords(&broker), ["two", "two"]);
        broker.prefer("i:5672");
        let hosts: Vec<_> = broker.addresses().iter().map(Address::host).collect();
        assert_eq!(hosts, ["i:5672", "h:5672"]);
        for broken in [Ok("nonsense".to_owned()), Err(std::io::ErrorKind::NotFound)] {
            *file.lock().unwrap() = broken;
            assert_eq!(passwords(&broker), ["two", "two"]);
        }
        assert!(!format!("{broker:?}").contains("two"));
    }
}
