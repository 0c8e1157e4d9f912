//! Logs: on stderr, one event a line, readable by default and as JSON for collectors.

use std::io::IsTerminal as _;

use clap::{Args, ValueEnum};
use tracing_subscriber::{EnvFilter, Layer as _, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _};

mod bounded;

use bounded::Bounded;

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Settings of the log.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Log")]
pub struct Telemetry {
    /// What to log: a level (error, warn, info, debug, trace) or directives such as `info,sqlx=warn`
    #[arg(long, env = "DDM_LOG", default_value = "info", value_name = "FILTER", global = true)]
    pub log: String,
    /// How to write log lines
    #[arg(long, env = "DDM_LOG_FORMAT", default_value = "text", value_name = "FORMAT", global = true)]
    pub log_format: Format,
}

impl Telemetry {
    /// Installs the log for the whole process.
    ///
    /// # Errors
    /// When the filter cannot be read, or a log is installed already.
    pub fn install(&self) -> anyhow::Result<()> {
        // lapin logs as errors what is expected (an exchange that is looked for before it is made, a message that no queue was
        // bound for, with its body); what goes wrong comes back as an error and is told by the bus, once.
        let filter = EnvFilter::try_new(format!("lapin=off,{}", self.log))
            .map_err(|error| anyhow::anyhow!("--log {:?} cannot be read: {error}", self.log))?;
        let lines = fmt::layer().with_writer(std::io::stderr);
        let lines = match self.log_format {
            Format::Text => lines.with_ansi(std::io::stderr().is_terminal()).with_target(false).boxed(),
            Format::Json => lines.json().flatten_event(true).boxed(),
        };
        let log = tracing_subscriber::registry().with(filter).with(lines).with(Bounded::new(self.log_format));
        let installed = log.try_init();
        installed.map_err(|error| anyhow::anyhow!("the log cannot be installed: {error}"))
    }
}
