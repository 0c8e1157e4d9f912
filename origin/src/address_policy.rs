//! The addresses from which DDM fetches. Pure: the resolver and the request check each address here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use url::Host;
use wire::{OriginUrl, job::JobReason};

use crate::error::OriginError;

/// The addresses that a program may reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressPolicy {
    /// Public addresses, and those that the operator allowed: for servers, which fetch on behalf of others.
    PublicOnly,
    /// All addresses that this machine can reach: for a program that fetches for its own user.
    Anywhere,
}

/// An address policy with the networks that the operator allowed.
#[derive(Debug, Clone)]
pub(crate) struct AddressFilter {
    policy: AddressPolicy,
    allowed: Vec<IpNet>,
}

impl AddressFilter {
    pub(crate) fn new(policy: AddressPolicy, allowed: Vec<IpNet>) -> Self {
        Self { policy, allowed }
    }

    /// Returns true if DDM may fetch from `address`. An IPv4 address mapped into IPv6 counts as that IPv4 address.
    pub(crate) fn admits(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.policy == AddressPolicy::Anywhere
            || is_public(address)
            || self.allowed.iter().any(|network| network.contains(&address))
    }

    /// Checks the URL itself. The resolver never receives an address that stands in a URL, so it is checked here. The URL
    /// parser has turned every spelling of it into a number.
    pub(crate) fn check(&self, url: &OriginUrl) -> Result<(), OriginError> {
        if url.url().port() == Some(0) {
            return Err(OriginError::unreachable("port 0".to_owned()));
        }
        let literal = match url.host() {
            Host::Ipv4(address) => IpAddr::V4(address),
            Host::Ipv6(address) => IpAddr::V6(address),
            Host::Domain(_) => return Ok(()),
        };
        if self.admits(literal) {
            Ok(())
        } else {
            Err(OriginError::new(JobReason::NotPublic, format!("address {literal}")))
        }
    }
}

/// Returns true if an address is unicast and globally reachable (IANA registries of special-purpose addresses).
pub(crate) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let is_special = match address.octets() {
        // This network, private, loopback.
        [0 | 10 | 127, ..] => true,
        // Shared by carriers.
        [100, b, ..] => (64..128).contains(&b),
        // Link-local.
        [169, 254, ..] => true,
        [172, b, ..] => (16..32).contains(&b),
        // Protocol assignments, documentation, relays of 6to4, private.
        [192, 0, 0 | 2, _] | [192, 88, 99, _] | [192, 168, ..] => true,
        // Benchmarks, documentation.
        [198, 18 | 19, ..] | [198, 51, 100, _] | [203, 0, 113, _] => true,
        // Multicast, reserved, broadcast.
        [a, ..] => a >= 224,
    };
    !is_special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    match address.segments() {
        // NAT64: as public as the IPv4 address inside.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
            is_public_v4(Ipv4Addr::new(a, b, c, d))
        }
        // Protocol assignments (Teredo and ORCHID among them), documentation, 6to4: no server publishes there.
        [0x2001, b, ..] if b < 0x200 || b == 0xdb8 => false,
        [0x2002, ..] => false,
        [0x3fff, b, ..] if b < 0x1000 => false,
        // All other global unicast is in 2000::/3.
        [a, ..] => a & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn public_only() -> AddressFilter {
        AddressFilter::new(AddressPolicy::PublicOnly, Vec::new())
    }

    fn verdict(addresses: &AddressFilter, url: &str) -> Option<JobReason> {
        addresses.check(&url.parse().unwrap()).err().map(|error| error.reason)
    }

    #[test]
    fn no_spelling_of_a_private_address_is_admitted() {
        for host in [
            // One address in all its spellings.
            "127.0.0.1",
            "127.1",
            "127.0.1",
            "2130706433",
            "0x7f000001",
            "0x7f.0.0.1",
            "0x7f.1",
            "0177.0.0.1",
            "017700000001",
            "00000177.0x0.0.1",
            "127.0.0.1.",
            "%31%32%37.0.0.1",
            "１２７.０.０.１",
            "127。0。0。1",
            "①②⑦.0.0.1",
            "[::1]",
            "[0:0:0:0:0:0:0:1]",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
            "[0:0:0:0:0:ffff:127.0.0.1]",
            "[::127.0.0.1]",
            "[64:ff9b::127.0.0.1]",
            "[64:ff9b::7f00:1]",
            // The others.
            "0",
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "10.255.255.255",
            "100.64.0.1",
            "100.127.255.255",
            "169.254.169.254",
            "0xa9fea9fe",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.0.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "4294967295",
            "[::]",
            "[64:ff9b::10.0.0.1]",
            "[64:ff9b::a9fe:a9fe]",
            "[64:ff9b:1::8.8.8.8]",
            "[100::1]",
            "[2001::1]",
            "[2001:0:4136:e378:8000:63bf:3fff:fdd2]",
            "[2001:10::1]",
            "[2001:20::1]",
            "[2001:db8::1]",
            "[2002:7f00:1::1]",
            "[2002:808:808::1]",
            "[3fff::1]",
            "[5f00::1]",
            "[fc00::1]",
            "[fd12:3456::1]",
            "[fe80::1]",
            "[fec0::1]",
            "[ff02::1]",
            "[ff0e::1]",
            "[::ffff:10.0.0.1]",
            "[::ffff:0:127.0.0.1]",
        ] {
            for scheme in ["http", "https"] {
                assert_eq!(
                    verdict(&public_only(), &format!("{scheme}://{host}:8080/x")),
                    Some(JobReason::NotPublic),
                    "{host}"
                );
            }
        }
    }

    #[test]
    fn a_malformed_address_is_refused_before_any_look_up() {
        for host in
            ["[fe80::1%25eth0]", "[fe80::1%eth0]", "256.0.0.1", "1.2.3.4.5", "0x100000000", "[::1", "127.0.0.1 "]
        {
            assert!(format!("http://{host}:8080/x").parse::<OriginUrl>().is_err(), "{host}");
        }
        assert_eq!(verdict(&public_only(), "http://example.org:0/"), Some(JobReason::Unreachable));
    }

    #[test]
    fn public_addresses_and_names_are_admitted() {
        for host in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.0.1",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.1",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "[2606:4700::1111]",
            "[2001:200::1]",
            "[2a00:1450::1]",
            "[::ffff:1.1.1.1]",
            "[64:ff9b::1.1.1.1]",
            "example.org",
            "localhost",
        ] {
            assert_eq!(verdict(&public_only(), &format!("http://{host}/x")), None, "{host}");
        }
    }

    #[test]
    fn the_operator_allows_the_named_networks_and_no_others() {
        let allowed = AddressFilter::new(
            AddressPolicy::PublicOnly,
            vec!["127.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()],
        );
        for host in ["127.0.0.1", "2130706433", "[::ffff:127.0.0.1]", "[fd00::1]"] {
            assert_eq!(verdict(&allowed, &format!("http://{host}/x")), None, "{host}");
        }
        for host in ["10.0.0.1", "[::1]", "[fc00::1]"] {
            assert_eq!(verdict(&allowed, &format!("http://{host}/x")), Some(JobReason::NotPublic), "{host}");
        }
        let anywhere = AddressFilter::new(AddressPolicy::Anywhere, Vec::new());
        assert_eq!(verdict(&anywhere, "http://127.0.0.1/x"), None);
    }

    /// Returns the special-purpose networks as the registries list them.
    fn networks() -> Vec<IpNet> {
        let text = "0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24 \
                    192.88.99.0/24 192.168.0.0/16 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 224.0.0.0/4 240.0.0.0/4";
        text.split_whitespace().map(|network| network.parse().unwrap()).collect()
    }

    proptest! {
        #[test]
        fn the_policy_agrees_with_the_registries_on_any_address(raw: u32, near in 0_usize..15, inside: u32) {
            let networks = networks();
            // Half of them at random, half of them in or beside a network.
            let IpNet::V4(network) = networks[near] else { unreachable!() };
            let close = u32::from(network.network()).wrapping_add(inside % (2 << (32 - u32::from(network.prefix_len()).max(1))));
            for raw in [raw, close] {
                let address = IpAddr::V4(raw.into());
                let expected = !networks.iter().any(|network| network.contains(&address));
                prop_assert_eq!(is_public(address), expected, "{}", address);
                let mapped = IpAddr::V6(Ipv4Addr::from(raw).to_ipv6_mapped());
                prop_assert_eq!(public_only().admits(mapped), expected, "{}", mapped);
                for host in [format!("{raw}"), format!("{raw:#x}"), format!("0{raw:o}"), format!("[{mapped}]")] {
                    let url = format!("http://{host}/");
                    prop_assert_eq!(verdict(&public_only(), &url).is_none(), expected, "{}", url);
                }
            }
        }

        #[test]
        fn no_ipv6_address_outside_global_unicast_is_public(raw: u128) {
            let address = Ipv6Addr::from(raw);
            if raw >> 125 != 1 && address.to_ipv4_mapped().is_none() && raw >> 96 != 0x64_ff9b {
                prop_assert!(!public_only().admits(address.into()), "{}", address);
            }
        }
    }
}
