//! The costs between zones. Pure.

use std::collections::BTreeMap;

use wire::Zone;

use crate::config::ZonePairSetting;

/// Cost between two zones that no setting names.
const DEFAULT_COST: u8 = 1;

/// The costs between zones.
#[derive(Debug, Clone, Default)]
pub struct ZoneCosts(BTreeMap<(Zone, Zone), u8>);

impl ZoneCosts {
    /// Makes the costs that settings name; of two for the same zones the last one holds.
    pub fn new(settings: impl IntoIterator<Item = ZonePairSetting<u8>>) -> Self {
        Self(settings.into_iter().map(ZonePairSetting::into_pair).collect())
    }

    /// Returns the cost between two zones: 0 from a zone to itself.
    pub fn between(&self, a: &Zone, b: &Zone) -> u8 {
        if a == b {
            return 0;
        }
        let key = if a < b { (a.clone(), b.clone()) } else { (b.clone(), a.clone()) };
        self.0.get(&key).copied().unwrap_or(DEFAULT_COST).max(DEFAULT_COST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cost_holds_in_both_directions_and_none_is_as_near_as_the_own_zone() {
        let costs = ZoneCosts::new(["us:eu=10", "ap:eu=0"].map(|text| text.parse().unwrap()));
        let [eu, us, ap] = ["eu", "us", "ap"].map(|zone| zone.parse::<Zone>().unwrap());
        assert_eq!([costs.between(&eu, &us), costs.between(&us, &eu)], [10, 10]);
        assert_eq!([costs.between(&eu, &eu), costs.between(&us, &ap), costs.between(&ap, &eu)], [0, 1, 1]);
    }
}
