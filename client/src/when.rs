//! Times as people write them.

use std::str::FromStr;

use jiff::{Timestamp, ToSpan as _, Zoned, civil};

/// A moment, as far as it can be told without knowing what time it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// The next time that clocks show this.
    Clock(civil::Time),
    /// When clocks here show this.
    Local(civil::DateTime),
    /// This very moment.
    Moment(Timestamp),
}

/// The text is no time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a time looks like 22:30, 2030-01-31T22:30 or 2030-01-31T22:30:00Z")]
pub struct WhenError;

impl When {
    /// The moment that is meant by whoever says it `now`.
    ///
    /// # Errors
    /// When it lies beyond all calendars.
    pub fn resolve(self, now: &Zoned) -> Result<Timestamp, WhenError> {
        let here = |moment: civil::DateTime| moment.to_zoned(now.time_zone().clone()).map_err(|_| WhenError);
        match self {
            Self::Moment(moment) => Ok(moment),
            Self::Local(moment) => Ok(here(moment)?.timestamp()),
            Self::Clock(time) => {
                let today = here(now.date().to_datetime(time))?;
                if today > *now {
                    return Ok(today.timestamp());
                }
                let tomorrow = now.date().checked_add(1.day()).map_err(|_| WhenError)?;
                Ok(here(tomorrow.to_datetime(time))?.timestamp())
            }
        }
    }
}

impl FromStr for When {
    type Err = WhenError;

    fn from_str(text: &str) -> Result<Self, WhenError> {
        let short = text.len() <= 8 && text.contains(':');
        if let (true, Ok(time)) = (short, text.parse()) {
            return Ok(Self::Clock(time));
        }
        // A date alone would silently mean midnight.
        if !text.contains(':') {
            return Err(WhenError);
        }
        let moment = text.parse().map(Self::Moment);
        moment.or_else(|_| text.parse().map(Self::Local)).map_err(|_| WhenError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_mean_them() {
        let now: Zoned = "2026-03-28T21:00[Europe/Berlin]".parse().unwrap();
        for (text, moment) in [
            ("22:30", "2026-03-28T21:30:00Z"),
            ("21:00", "2026-03-29T19:00:00Z"),
            ("08:15:30", "2026-03-29T06:15:30Z"),
            ("2026-04-01T06:00", "2026-04-01T04:00:00Z"),
            ("2026-04-01 06:00", "2026-04-01T04:00:00Z"),
            ("2026-04-01T06:00:00Z", "2026-04-01T06:00:00Z"),
            ("2026-04-01T06:00:00+05:00", "2026-04-01T01:00:00Z"),
        ] {
            let when: When = text.parse().unwrap_or_else(|_| panic!("{text}"));
            assert_eq!(when.resolve(&now).unwrap().to_string(), moment, "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for bad in ["", "tomorrow", "25:00", "22", "2026-04-01", "2026-13-01T00:00", "22:30 foo", "2h"] {
            assert_eq!(bad.parse::<When>(), Err(WhenError), "{bad}");
        }
    }
}
