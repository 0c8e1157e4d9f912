//! Replication policies with nothing left to defaults. Pure.

use std::collections::BTreeSet;

use wire::catalogue::Policy;

use crate::{
    config,
    error::{Result, invalid},
};

/// Zones in one policy.
const MAX_ZONES: usize = 32;
/// Replicas in one zone.
pub(crate) const MAX_REPLICAS: u32 = 1000;

/// Fills a policy with the defaults, and with never fewer replicas than the quorum.
///
/// # Errors
/// 422 when it names no zone or too many, or no replica or too many.
pub(crate) fn resolve(asked: Policy, defaults: &config::Replication, quorum: u32) -> Result<Policy> {
    let zones = asked.zones.or_else(|| (!defaults.default_zones.is_empty()).then(|| defaults.default_zones.clone()));
    let zones = zones.map(|mut zones| {
        let mut seen = BTreeSet::new();
        zones.retain(|zone| seen.insert(zone.clone()));
        zones
    });
    if zones.as_ref().is_some_and(|zones| !(1..=MAX_ZONES).contains(&zones.len())) {
        return Err(invalid(format!("policy.zones must name 1 to {MAX_ZONES} zones; leave it out for any")));
    }
    let replicas = asked.replicas.unwrap_or(defaults.default_replicas);
    if !(1..=MAX_REPLICAS).contains(&replicas) {
        return Err(invalid(format!("policy.replicas must be between 1 and {MAX_REPLICAS}")));
    }
    Ok(Policy { replicas: Some(replicas.max(quorum)), zones, through: asked.through })
}
