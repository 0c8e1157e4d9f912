//! The ways to servers: HTTP clients, and the addresses that each may reach.

use reqwest::Client;

use crate::{address_policy::AddressFilter, connector::Connector};

/// A way to servers: a client, and the addresses that it may reach.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    pub(crate) client: Client,
    pub(crate) addresses: AddressFilter,
    /// Makes connections for what the client cannot read.
    pub(crate) connector: Connector,
}

/// The ways to servers, by how a request came to them.
#[derive(Debug, Clone)]
pub(crate) struct Routes {
    /// Route to the server of the URL; presents the client certificate.
    pub(crate) first: Route,
    /// Route to servers to which a redirect led.
    pub(crate) elsewhere: Route,
    /// Route to servers to which a redirect of a public server led: public ones, and those that the operator or user allowed.
    pub(crate) guarded: Route,
    /// True if a proxy makes the connections, so that no address of an origin is known here.
    pub(crate) proxied: bool,
}
