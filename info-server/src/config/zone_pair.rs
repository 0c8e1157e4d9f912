//! Settings about pairs of zones.

use std::str::FromStr;

use wire::Zone;

/// A setting about two zones, in either order: `a:b=value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZonePairSetting<T> {
    zones: (Zone, Zone),
    value: T,
}

impl<T> ZonePairSetting<T> {
    /// Returns the two zones, in their own order, and the value.
    pub fn into_pair(self) -> ((Zone, Zone), T) {
        (self.zones, self.value)
    }
}

impl<T: FromStr> FromStr for ZonePairSetting<T> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_no_two_zones_is_refused() {
        for bad in ["", "a:b", "a=1", "a:a=1", "a:b=x", "a:b=256", "A:b=1", "a:b=-1"] {
            assert!(bad.parse::<ZonePairSetting<u8>>().is_err(), "{bad}");
        }
    }
}
