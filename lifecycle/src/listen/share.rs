//! One address must not take all places.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
};

/// How many connections each address has open.
#[derive(Debug, Clone)]
pub(super) struct Shares {
    most: usize,
    taken: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// A place that is given back when this is dropped.
#[derive(Debug)]
pub(super) struct Share(Option<(Shares, IpAddr)>);

impl Shares {
    pub(super) fn new(most: usize) -> Self {
        Self { most, taken: Arc::default() }
    }

    /// A place for a peer, unless it has its share already. Peers of this machine are not counted: a proxy that runs beside
    /// the server brings everybody, and whoever is on the machine has other ways to harm it.
    pub(super) fn take(&self, peer: IpAddr) -> Option<Share> {
        let peer = site(peer);
        if peer.is_loopback() {
            return Some(Share(None));
        }
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(peer).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Share(Some((self.clone(), peer))))
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let Some((shares, peer)) = &self.0 else { return };
        let mut taken = shares.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(peer) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                taken.remove(peer);
            }
        }
    }
}

/// Whoever has one IPv6 address has 2^64 of them.
fn site(peer: IpAddr) -> IpAddr {
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
        let shares = Shares::new(2);
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let held: Vec<_> = (0..2).map(|_| shares.take(ip("192.0.2.1")).unwrap()).collect();
        assert!(shares.take(ip("192.0.2.1")).is_none());
        assert!(shares.take(ip("::ffff:192.0.2.1")).is_none(), "the same address");
        assert!(shares.take(ip("192.0.2.2")).is_some());
        let site: Vec<_> = ["2001:db8::1", "2001:db8::2"].map(|text| shares.take(ip(text)).unwrap()).into();
        assert!(shares.take(ip("2001:db8::3")).is_none(), "the same site");
        assert!(shares.take(ip("2001:db8:0:1::1")).is_some());
        let local: Vec<_> = (0..9).map(|_| shares.take(ip("127.0.0.1")).unwrap()).collect();
        drop((held, site, local));
        assert!(shares.take(ip("192.0.2.1")).is_some());
        assert!(shares.taken.lock().unwrap().is_empty());
    }
}
