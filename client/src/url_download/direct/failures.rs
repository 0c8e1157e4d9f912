//! The failures of attempts: what the user is told, and when the next attempt begins.

use std::time::{Duration, Instant};

use anyhow::bail;
use origin::OriginError;
use tokio::time;
use wire::job::JobReason;

use super::{DirectDownload, MAX_RESTARTS};
use crate::{
    progress,
    url_download::{
        outcome::DirectReason,
        retry::{NextStep, RetrySchedule},
    },
};

/// Shortest pause that is told to the user.
const MIN_SHOWN_PAUSE: Duration = Duration::from_secs(10);

impl DirectDownload<'_> {
    /// Waits for the next attempt.
    ///
    /// # Errors
    /// When there is none, with the failure and what to do.
    pub(super) async fn pause(
        &mut self,
        schedule: &mut RetrySchedule,
        error: &OriginError,
        reason: &DirectReason,
    ) -> anyhow::Result<()> {
        let mut step = schedule.after_failure(error, Instant::now());
        if self.restarts >= MAX_RESTARTS {
            step = NextStep::GiveUp;
        }
        match step {
            NextStep::Retry(pause) => {
                self.show_failure(error, pause);
                time::sleep(pause).await;
                Ok(())
            }
            // The whole error is shown: the user may reach the origin, and so may know its answers.
            NextStep::GiveUp => bail!("{error}{}", self.advice(error, reason)),
            NextStep::ComeBack(pause) => {
                bail!("{error}; it asks to come back in {}: start again then", humantime::format_duration(pause))
            }
        }
    }

    fn advice(&self, error: &OriginError, reason: &DirectReason) -> &'static str {
        match error.reason {
            JobReason::NotPublic => "; if you trust the redirect, allow that network with --origin-allow",
            JobReason::Refused if error.detail.contains("status 401") => {
                "; give your log-in in ~/.netrc, or a header with --header"
            }
            JobReason::Refused if reason.was_requested_before => {
                "; if the link works only once, get a fresh one and add --direct"
            }
            JobReason::Refused if ["404", "410"].iter().any(|it| error.detail.contains(&format!("status {it}"))) => {
                "; check the URL"
            }
            _ if self.received() > 0 => "; start again to resume",
            _ => "",
        }
    }

    /// Shows a failure, once until it is another one.
    fn show_failure(&mut self, error: &OriginError, pause: Duration) {
        let is_same = |shown: &OriginError| (shown.reason, shown.obstacle) == (error.reason, error.obstacle);
        if self.shown.as_ref().is_some_and(is_same) {
            return;
        }
        let after = if pause >= MIN_SHOWN_PAUSE {
            format!(" in {}", humantime::format_duration(Duration::from_secs(pause.as_secs())))
        } else {
            String::new()
        };
        let text = format!("{}: trying again{after} ({})", error.reason.sentence(), error.detail);
        progress::note(self.display, "retry", &text);
        self.shown = Some(error.clone());
    }
}
