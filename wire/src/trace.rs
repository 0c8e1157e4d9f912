//! Trace identifiers: one for each task of a user, the same in the logs of every process that takes part.
//!
//! They are sent as `traceparent` (W3C Trace Context, level 1), so that other tools recognise them.

use std::{fmt, str::FromStr};

use rand::Rng as _;

/// Name of the header that carries the trace.
pub const HEADER: &str = "traceparent";

/// Trace identifier: 128 random bits, never all zero, shown as 32 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId([u8; 16]);

/// Error of a text that is not a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a traceparent of version 00")]
pub struct TraceError;

impl TraceId {
    /// Creates a random identifier.
    #[expect(clippy::new_without_default, reason = "an id that springs from a default would hide its randomness")]
    pub fn new() -> Self {
        let mut raw = [0; 16];
        rand::rng().fill_bytes(&mut raw);
        // All zero means "none" (§3.2.2.3).
        raw[0] |= 1;
        Self(raw)
    }

    /// Returns the value of the header, with a new random id for the request that carries it.
    pub fn header(self) -> String {
        let mut parent = [0; 8];
        rand::rng().fill_bytes(&mut parent);
        parent[0] |= 1;
        format!("00-{self}-{}-01", hex::encode(parent))
    }

    /// Parses the value of a header.
    ///
    /// # Errors
    /// [`TraceError`] for anything but version 00 in its exact form, with neither id zero.
    pub fn from_header(text: &str) -> Result<Self, TraceError> {
        let mut parts = text.split('-');
        let (Some("00"), Some(trace), Some(parent), Some(flags), None) =
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(TraceError);
        };
        let id = trace.parse()?;
        let lower_hex = |text: &str| text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        let fits = parent.len() == 16 && lower_hex(parent) && parent.bytes().any(|b| b != b'0');
        if fits && flags.len() == 2 && lower_hex(flags) { Ok(id) } else { Err(TraceError) }
    }
}

impl FromStr for TraceId {
    type Err = TraceError;

    fn from_str(text: &str) -> Result<Self, TraceError> {
        let mut raw = [0; 16];
        hex::decode_to_slice(text, &mut raw).map_err(|_| TraceError)?;
        let upper = text.bytes().any(|b| b.is_ascii_uppercase());
        if upper || raw == [0; 16] { Err(TraceError) } else { Ok(Self(raw)) }
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&hex::encode(self.0))
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_survives_its_header_and_each_header_names_another_request() {
        let trace = TraceId::new();
        let (first, second) = (trace.header(), trace.header());
        assert_ne!(first, second);
        assert_eq!(TraceId::from_header(&first), Ok(trace));
        assert_eq!(trace.to_string().parse(), Ok(trace));
    }

    #[test]
    fn only_the_exact_form_is_read() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert!(TraceId::from_header(good).is_ok());
        for bad in [
            "",
            "00",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1",
            "00-4bf92f3577b34da6a3ce929d0e0e473-600f067aa0ba902b7-01",
        ] {
            assert_eq!(TraceId::from_header(bad), Err(TraceError), "{bad}");
        }
    }
}
