//! The order of sources.

use transfer::source::Source;
use wire::{Zone, catalogue::Location};

/// Ranks locations by distance: the info-server's cost, which includes the zone of the login, and at least 1 outside of `zone`.
/// Without any zone all are equal.
pub(crate) fn ranked(locations: Vec<Location>, zone: Option<&Zone>) -> Vec<Source> {
    let tier = |location: &Location| location.cost.max(u8::from(zone.is_some_and(|zone| *zone != location.zone)));
    locations.into_iter().map(|location| Source { tier: tier(&location), location }).collect()
}
