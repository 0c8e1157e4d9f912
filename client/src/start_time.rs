//! Start times as people write them.

use std::{str::FromStr, time::Duration};

use anyhow::Context as _;
use info_client::UserClient;
use jiff::{Timestamp, ToSpan as _, Zoned, civil, tz::TimeZone};

/// Start time that may depend on the current time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartTime {
    /// Next occurrence of a local time of day.
    Clock(civil::Time),
    /// Local date and time.
    Local(civil::DateTime),
    /// Time with its offset from UTC.
    Absolute(Timestamp),
}

/// Error of a text that is no start time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a time looks like 22:30, 2030-01-31T22:30 or 2030-01-31T22:30:00Z")]
pub struct StartTimeError;

impl StartTime {
    /// Returns the point in time that is meant at `now`.
    ///
    /// # Errors
    /// When it lies outside of the calendar's range.
    pub fn resolve(self, now: &Zoned) -> Result<Timestamp, StartTimeError> {
        let here = |moment: civil::DateTime| moment.to_zoned(now.time_zone().clone()).map_err(|_| StartTimeError);
        match self {
            Self::Absolute(moment) => Ok(moment),
            Self::Local(moment) => Ok(here(moment)?.timestamp()),
            Self::Clock(time) => {
                let today = here(now.date().to_datetime(time))?;
                if today > *now {
                    return Ok(today.timestamp());
                }
                let tomorrow = now.date().checked_add(1.day()).map_err(|_| StartTimeError)?;
                Ok(here(tomorrow.to_datetime(time))?.timestamp())
            }
        }
    }
}

impl FromStr for StartTime {
    type Err = StartTimeError;

    fn from_str(text: &str) -> Result<Self, StartTimeError> {
        let short = text.len() <= 8 && text.contains(':');
        if let (true, Ok(time)) = (short, text.parse()) {
            return Ok(Self::Clock(time));
        }
        // A date without a time would silently mean midnight.
        if !text.contains(':') {
            return Err(StartTimeError);
        }
        let moment = text.parse().map(Self::Absolute);
        moment.or_else(|_| text.parse().map(Self::Local)).map_err(|_| StartTimeError)
    }
}

/// Returns the start time of a job that starts `at` a time or `after` a while. The info-server's clock counts, because it starts the
/// job; the clock of this machine may be wrong.
///
/// # Errors
/// When the info-server does not name its time, or the start lies outside of the calendar's range.
pub(crate) async fn start_at(
    info: &UserClient,
    at: Option<StartTime>,
    after: Option<Duration>,
) -> anyhow::Result<Option<Timestamp>> {
    if at.is_none() && after.is_none() {
        return Ok(None);
    }
    let now = info.server_time().await?;
    Ok(match (at, after) {
        (Some(at), _) => Some(at.resolve(&now.to_zoned(TimeZone::system()))?),
        (None, Some(after)) => Some(now.checked_add(after).context("--in is too far in the future")?),
        (None, None) => None,
    })
}

#[cfg(test)]
mod tests {
    use axum::{Json, Router, routing::get};

    use super::*;

    #[tokio::test]
    async fn the_clock_of_the_info_server_counts() {
        let alive = || async { Json(serde_json::json!({ "status": "alive", "time": "2091-03-04T05:06:07Z" })) };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
        let router = Router::new().route("/livez", get(alive));
        tokio::spawn(async move { axum::serve(listener, router).await });
        let info = UserClient::new(base, reqwest::Client::new(), None);
        let start = start_at(&info, None, Some(Duration::from_secs(2 * 3600))).await.unwrap().unwrap();
        let late = start.duration_since("2091-03-04T07:06:07Z".parse().unwrap());
        assert!((0..30).contains(&late.as_secs()), "{start}");
        let tomorrow: StartTime = "2091-03-05T00:00:00Z".parse().unwrap();
        let start = start_at(&info, Some(tomorrow), None).await.unwrap();
        assert_eq!(start, Some("2091-03-05T00:00:00Z".parse().unwrap()));
        assert_eq!(start_at(&info, None, None).await.unwrap(), None);
    }

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
            let start: StartTime = text.parse().unwrap_or_else(|_| panic!("{text}"));
            assert_eq!(start.resolve(&now).unwrap().to_string(), moment, "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for bad in ["", "tomorrow", "25:00", "22", "2026-04-01", "2026-13-01T00:00", "22:30 foo", "2h"] {
            assert_eq!(bad.parse::<StartTime>(), Err(StartTimeError), "{bad}");
        }
    }
}
