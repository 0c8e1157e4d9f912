//! How far zones are from each other. Pure.

use std::{collections::BTreeMap, str::FromStr};

use wire::Zone;

/// The cost between two zones that no setting names.
const ORDINARY: u8 = 1;

/// A setting about two zones, in either order: `a:b=value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Between<T> {
    zones: (Zone, Zone),
    value: T,
}

impl<T> Between<T> {
    /// The two zones, in their own order, and what is set.
    pub fn into_pair(self) -> ((Zone, Zone), T) {
        (self.zones, self.value)
    }
}

impl<T: FromStr> FromStr for Between<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not of the form zone:zone=number");
        let (zones, value) = text.split_once('=').ok_or_else(wrong)?;
        let (a, b) = zones.split_once(':').ok_or_else(wrong)?;
        let zone = |text: &str| text.trim().parse::<Zone>().map_err(|error| error.to_string());
        let (a, b) = (zone(a)?, zone(b)?);
        if a == b {
            return Err(format!("{text:?} names one zone twice: name two"));
        }
        let value = value.trim().parse().map_err(|_| wrong())?;
        Ok(Self { zones: if a < b { (a, b) } else { (b, a) }, value })
    }
}

/// The costs between zones.
#[derive(Debug, Clone, Default)]
pub struct Costs(BTreeMap<(Zone, Zone), u8>);

impl Costs {
    /// The costs that settings name; the last one of two zones holds.
    pub fn new(settings: impl IntoIterator<Item = Between<u8>>) -> Self {
        Self(settings.into_iter().map(Between::into_pair).collect())
    }

    /// How far a zone is from another: 0 from itself.
    pub fn between(&self, a: &Zone, b: &Zone) -> u8 {
        if a == b {
            return 0;
        }
        let key = if a < b { (a.clone(), b.clone()) } else { (b.clone(), a.clone()) };
        self.0.get(&key).copied().unwrap_or(ORDINARY).max(ORDINARY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cost_holds_in_both_directions_and_none_is_as_near_as_the_own_zone() {
        let costs = Costs::new(["us:eu=10", "ap:eu=0"].map(|text| text.parse().unwrap()));
        let [eu, us, ap] = ["eu", "us", "ap"].map(|zone| zone.parse::<Zone>().unwrap());
        assert_eq!([costs.between(&eu, &us), costs.between(&us, &eu)], [10, 10]);
        assert_eq!([costs.between(&eu, &eu), costs.between(&us, &ap), costs.between(&ap, &eu)], [0, 1, 1]);
    }

    #[test]
    fn what_names_no_two_zones_is_refused() {
        for bad in ["", "a:b", "a=1", "a:a=1", "a:b=x", "a:b=256", "A:b=1", "a:b=-1"] {
            assert!(bad.parse::<Between<u8>>().is_err(), "{bad}");
        }
    }
}
