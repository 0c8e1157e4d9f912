//! A bound on the connections of one client address, so that one client cannot occupy them all.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
};

/// Number of open connections of each client address.
#[derive(Debug, Clone)]
pub(super) struct PerIpLimit {
    max: usize,
    open: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// Right of one connection to be open; returned on drop.
#[derive(Debug)]
pub(super) struct PerIpPermit(Option<(PerIpLimit, IpAddr)>);

impl PerIpLimit {
    pub(super) fn new(max: usize) -> Self {
        Self { max, open: Arc::default() }
    }

    /// Returns a permit for a connection from `peer`, or `None` at the limit.
    ///
    /// Loopback addresses are not counted: a proxy on this machine brings the connections of all clients, and a local process
    /// has other ways to do harm.
    pub(super) fn acquire(&self, peer: IpAddr) -> Option<PerIpPermit> {
        let peer = network(peer);
        if peer.is_loopback() {
            return Some(PerIpPermit(None));
        }
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(peer).or_default();
        if *count >= self.max {
            return None;
        }
        *count += 1;
        Some(PerIpPermit(Some((self.clone(), peer))))
    }
}

impl Drop for PerIpPermit {
    fn drop(&mut self) {
        let Some((limit, peer)) = &self.0 else { return };
        let mut open = limit.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(peer) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                open.remove(peer);
            }
        }
    }
}

/// Returns the address that connections are counted under: of IPv6 the /64, because one client can use all 2^64 addresses
/// of it.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(ip) if !ip.is_loopback() => {
            let [a, b, c, d, ..] = ip.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_gets_its_share_and_no_more_until_it_gives_some_back() {
        let limit = PerIpLimit::new(2);
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let held: Vec<_> = (0..2).map(|_| limit.acquire(ip("192.0.2.1")).unwrap()).collect();
        assert!(limit.acquire(ip("192.0.2.1")).is_none());
        assert!(limit.acquire(ip("::ffff:192.0.2.1")).is_none(), "the same address");
        assert!(limit.acquire(ip("192.0.2.2")).is_some());
        let network: Vec<_> = ["2001:db8::1", "2001:db8::2"].map(|text| limit.acquire(ip(text)).unwrap()).into();
        assert!(limit.acquire(ip("2001:db8::3")).is_none(), "the same /64");
        assert!(limit.acquire(ip("2001:db8:0:1::1")).is_some());
        let local: Vec<_> = (0..9).map(|_| limit.acquire(ip("127.0.0.1")).unwrap()).collect();
        drop((held, network, local));
        assert!(limit.acquire(ip("192.0.2.1")).is_some());
        assert!(limit.open.lock().unwrap().is_empty());
    }
}
