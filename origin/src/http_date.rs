//! Dates in HTTP headers.

use jiff::{Timestamp, fmt::rfc2822};

/// Parses an HTTP date in IMF-fixdate, the one form that senders still generate (RFC 9110 §5.6.7).
pub(crate) fn parse(text: &str) -> Option<Timestamp> {
    let is_fixdate = text.len() == 29 && text.ends_with(" GMT");
    is_fixdate.then(|| rfc2822::parse(text).ok().map(|zoned| zoned.timestamp())).flatten()
}
