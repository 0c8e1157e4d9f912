//! Addresses in the header of a proxy: `X-Forwarded-For` and its like, and `Forwarded` (RFC 7239). Pure.
//!
//! A header is read from its end: a proxy appends, so only what stands left of a trusted proxy's own part may be forged. Nothing that
//! a client sends can change how the parts to the right of it are read.

use std::net::{IpAddr, SocketAddr};

use axum::http::HeaderName;

/// The header whose addresses count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Syntax {
    /// A list of addresses, each with or without a port.
    Addresses,
    /// RFC 7239.
    Forwarded,
}

impl Syntax {
    pub(crate) fn of(header: &HeaderName) -> Self {
        if *header == axum::http::header::FORWARDED { Self::Forwarded } else { Self::Addresses }
    }

    /// Returns the address that one hop was called from; none if the hop does not say.
    pub(crate) fn address(&self, element: &str) -> Option<IpAddr> {
        match self {
            Self::Addresses => node(element),
            Self::Forwarded => {
                let pairs = split_from_the_end(element, ';').filter_map(|pair| pair.split_once('='));
                let mut nodes = pairs.filter(|(name, _)| name.trim().eq_ignore_ascii_case("for"));
                nodes.next().and_then(|(_, value)| node(value))
            }
        }
    }
}

/// Returns the elements of a field line, the last one first. Empty ones do not count (RFC 9110 §5.6.1).
pub(crate) fn elements_from_the_end(line: &str) -> impl Iterator<Item = &str> {
    split_from_the_end(line, ',').filter(|element| !element.is_empty())
}

/// Splits text at a separator outside quotation marks, the last part first.
fn split_from_the_end(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let whole = rest.take()?;
        let mut quoted = false;
        for (at, character) in whole.char_indices().rev() {
            let before = whole.get(..at).unwrap_or_default();
            if character == '"' && !is_escaped(before) {
                quoted = !quoted;
            } else if character == separator && !quoted {
                rest = Some(before);
                return whole.get(at + separator.len_utf8()..).map(str::trim);
            }
        }
        Some(whole.trim())
    })
}

/// Returns true if text that ends here escapes the character after it.
fn is_escaped(before: &str) -> bool {
    before.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1
}

/// Parses an address with or without port, brackets, zone and quotation marks. `unknown` and made-up names are none.
fn node(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text).trim();
    let address = match text.strip_prefix('[').and_then(|text| text.split_once(']')) {
        Some((address, port)) if port.is_empty() || port.starts_with(':') => without_zone(address).parse().ok(),
        Some(_) => None,
        None => without_zone(text)
            .parse()
            .ok()
            .or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))
            // RFC 7239 allows a port with a made-up name, too: `192.0.2.43:_port`.
            .or_else(|| text.split_once(':')?.0.parse().ok()),
    };
    address.map(|address: IpAddr| address.to_canonical())
}

fn without_zone(address: &str) -> &str {
    address.split_once('%').map_or(address, |(address, _)| address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_in_every_form_that_proxies_write() {
        for (text, expected) in [
            ("192.0.2.43", Some("192.0.2.43")),
            ("192.0.2.43:47011", Some("192.0.2.43")),
            ("192.0.2.43:_p", Some("192.0.2.43")),
            ("\"192.0.2.43:47011\"", Some("192.0.2.43")),
            ("2001:db8::17", Some("2001:db8::17")),
            ("[2001:db8::17]", Some("2001:db8::17")),
            ("[2001:db8::17]:47011", Some("2001:db8::17")),
            ("\"[2001:DB8::17]:47011\"", Some("2001:db8::17")),
            ("fe80::1%eth0", Some("fe80::1")),
            ("[fe80::1%25eth0]:1", Some("fe80::1")),
            ("::ffff:192.0.2.43", Some("192.0.2.43")),
            ("[::ffff:192.0.2.43]:5", Some("192.0.2.43")),
            ("unknown", None),
            ("_hidden", None),
            ("[2001:db8::17", None),
            ("[2001:db8::17]x", None),
            ("\"", None),
            ("", None),
        ] {
            assert_eq!(node(text), expected.map(|address| address.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn the_elements_of_a_line_are_read_from_its_end_whatever_a_client_wrote_before_them() {
        for (line, expected) in [
            ("a, b ,c", &["c", "b", "a"][..]),
            ("a,, b,", &["b", "a"]),
            ("", &[]),
            ("for=\"x,y\", for=z", &["for=z", "for=\"x,y\""]),
            ("for=\"x, for=\"[2001:db8::1]:4\"", &["for=\"[2001:db8::1]:4\"", "for=\"x"]),
            ("for=a;host=\"b\\\",c\"", &["for=a;host=\"b\\\",c\""]),
        ] {
            assert_eq!(elements_from_the_end(line).collect::<Vec<_>>(), expected, "{line}");
        }
    }

    #[test]
    fn only_the_parameter_for_of_a_forwarded_element_counts() {
        for (element, expected) in [
            ("for=192.0.2.60;proto=http;by=203.0.113.43", Some("192.0.2.60")),
            ("by=203.0.113.43; FOR=\"[2001:db8:cafe::17]:4711\"", Some("2001:db8:cafe::17")),
            ("host=\"for=203.0.113.9;x\";for=192.0.2.60:80", Some("192.0.2.60")),
            ("by=203.0.113.43", None),
            ("for=_SEVKISEK", None),
            ("192.0.2.60", None),
        ] {
            let found = Syntax::Forwarded.address(element);
            assert_eq!(found, expected.map(|address| address.parse().unwrap()), "{element}");
        }
    }
}
