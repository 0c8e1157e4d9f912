//! Logs on stderr, one event per line, as text or as JSON for log collectors.

use std::io::IsTerminal as _;

use clap::Args;
use tracing_subscriber::{EnvFilter, Layer as _, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _};

mod format;
mod rate_limit;

pub use format::Format;
use rate_limit::RateLimit;

/// Settings of the log.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(next_help_heading = "Log")]
pub struct Telemetry {
    /// Log level (error, warn, info, debug, trace), or directives such as `info,sqlx=warn`
    #[arg(long, env = "DDM_LOG", default_value = "info", value_name = "FILTER", global = true)]
    pub log: String,
    /// Format of log lines
    #[arg(long, env = "DDM_LOG_FORMAT", default_value = "text", value_name = "FORMAT", global = true)]
    pub log_format: Format,
}

impl Telemetry {
    /// Installs the logger of the process.
    ///
    /// # Errors
    /// When the filter is not valid, or a logger is installed already.
    pub fn install(&self) -> anyhow::Result<()> {
        // lapin logs expected events as errors (the passive declaration of a missing exchange, a message without a queue, with its
        // body). Real errors are returned to the bus, which logs them once.
        let filter = EnvFilter::try_new(format!("lapin=off,{}", self.log))
            .map_err(|error| anyhow::anyhow!("--log {:?} is not a valid filter: {error}", self.log))?;
        let lines = fmt::layer().with_writer(std::io::stderr);
        let lines = match self.log_format {
            Format::Text => lines
                .with_ansi(std::io::stderr().is_terminal() && shows_colors(|name| std::env::var(name).ok()))
                .with_target(false)
                .boxed(),
            Format::Json => lines.json().flatten_event(true).boxed(),
        };
        let log = tracing_subscriber::registry().with(filter).with(lines).with(RateLimit::new(self.log_format));
        let installed = log.try_init();
        installed.map_err(|error| anyhow::anyhow!("the logger cannot be installed: {error}"))
    }
}

/// Returns true if the terminal shows colours and its user wants them (<https://no-color.org>).
fn shows_colors(variable: impl Fn(&str) -> Option<String>) -> bool {
    let is_unwanted = variable("NO_COLOR").is_some_and(|value| !value.is_empty());
    !is_unwanted && variable("TERM").is_none_or(|terminal| terminal != "dumb")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_left_out_where_the_user_or_the_terminal_does_not_want_them() {
        for (no_color, term, shown) in [
            (None, Some("xterm"), true),
            (None, None, true),
            (Some(""), Some("xterm"), true),
            (Some("1"), Some("xterm"), false),
            (None, Some("dumb"), false),
        ] {
            let variable = |name: &str| if name == "TERM" { term } else { no_color }.map(str::to_owned);
            assert_eq!(shows_colors(variable), shown, "{no_color:?} {term:?}");
        }
    }
}
