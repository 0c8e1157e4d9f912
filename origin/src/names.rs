//! From names to addresses, past the guard: a connection is made to an address that was looked at, and to no other, so that a
//! name that answers differently the second time gains nothing.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use futures::future::BoxFuture;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::guard::Addresses;

/// Knows the addresses of names.
pub trait Names: fmt::Debug + Send + Sync {
    /// The addresses of `host`, best first.
    fn addresses(&self, host: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>>;
}

/// Asks the system's resolver.
#[derive(Debug, Clone, Copy)]
pub struct SystemNames;

impl Names for SystemNames {
    fn addresses(&self, host: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        Box::pin(async move { Ok(tokio::net::lookup_host((host, 0)).await?.map(|address| address.ip()).collect()) })
    }
}

/// A name has addresses, but none that may be fetched from.
#[derive(Debug, thiserror::Error)]
#[error("its name has no public address")]
pub(crate) struct NotAdmitted;

/// The resolver of the HTTP client.
pub(crate) struct GuardedNames {
    pub(crate) names: Arc<dyn Names>,
    pub(crate) addresses: Addresses,
}

impl Resolve for GuardedNames {
    fn resolve(&self, name: Name) -> Resolving {
        let found = self.names.addresses(name.as_str().to_owned());
        let addresses = self.addresses.clone();
        Box::pin(async move {
            let found = found.await?;
            let admitted: Vec<_> = found.iter().copied().filter(|address| addresses.admits(*address)).collect();
            if admitted.is_empty() && !found.is_empty() {
                return Err(NotAdmitted.into());
            }
            let to_socket = |address| SocketAddr::new(address, 0);
            let admitted: Addrs = Box::new(admitted.into_iter().map(to_socket));
            Ok(admitted)
        })
    }
}
