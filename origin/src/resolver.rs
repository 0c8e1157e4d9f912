//! Resolution of names through the address filter. Each connection is made to an address that was checked and to no other, so
//! that a name which resolves differently the second time gains nothing (DNS rebinding).

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use futures::future::BoxFuture;
use lifecycle::names::Names;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::{
    address_policy::AddressFilter,
    error::{LookupFailed, NoPublicAddress, UnknownName},
};

/// A source of the addresses of names.
pub trait Resolver: fmt::Debug + Send + Sync {
    /// Returns the addresses of `host`, best first.
    fn addresses(&self, host: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>>;
}

/// The resolver of the operating system. A look-up goes on when the attempt that waits for it ends.
#[derive(Debug, Clone, Default)]
pub struct SystemResolver(Names);

impl Resolver for SystemResolver {
    fn addresses(&self, host: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        let names = self.0.clone();
        Box::pin(async move { Ok(names.look_up(&host).await?.iter().map(SocketAddr::ip).collect()) })
    }
}

/// The resolver of the HTTP client: returns only addresses that the filter admits.
pub(crate) struct FilteringResolver {
    pub(crate) resolver: Arc<dyn Resolver>,
    pub(crate) addresses: AddressFilter,
}

impl Resolve for FilteringResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let host = name.as_str().to_owned();
        let found = self.resolver.addresses(host.clone());
        let addresses = self.addresses.clone();
        Box::pin(async move {
            if is_reserved(&host) {
                return Err(UnknownName(host).into());
            }
            let found = match found.await {
                Ok(found) if found.is_empty() => return Err(UnknownName(host).into()),
                Err(error) if is_final(&error) => return Err(UnknownName(host).into()),
                Err(error) => return Err(LookupFailed(host, error).into()),
                Ok(found) => found,
            };
            let admitted: Vec<_> = found.iter().copied().filter(|address| addresses.admits(*address)).collect();
            if admitted.is_empty() && !found.is_empty() {
                return Err(NoPublicAddress.into());
            }
            let to_socket = |address| SocketAddr::new(address, 0);
            let admitted: Addrs = Box::new(admitted.into_iter().map(to_socket));
            Ok(admitted)
        })
    }
}

/// Returns true for names that no name server has (RFC 6761 §6.4).
fn is_reserved(host: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    host == "invalid" || host.ends_with(".invalid")
}

/// Returns true if the system says that there is no such name, and not that it cannot find out. The system's function returns only
/// a text, which does not depend on the language: glibc, musl and BSD.
fn is_final(error: &io::Error) -> bool {
    let text = error.to_string();
    [
        "Name or service not known",
        "No address associated with",
        "Name does not resolve",
        "nodename nor servname",
        "Name has no usable address",
    ]
    .iter()
    .any(|known| text.contains(known))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_name_is_told_from_a_name_server_that_does_not_answer() {
        let failed = |text: &str| is_final(&io::Error::other(format!("failed to lookup address information: {text}")));
        assert!(failed("Name or service not known") && failed("No address associated with hostname"));
        assert!(failed("Name does not resolve"));
        assert!(
            !failed("Temporary failure in name resolution")
                && !failed("Try again")
                && !failed("Device or resource busy")
        );
        assert!(is_reserved("nobody.INVALID.") && is_reserved("invalid") && !is_reserved("invalid.org"));
    }
}
