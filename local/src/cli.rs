//! The command line.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Parser;
use lifecycle::telemetry::Telemetry;
use secrecy::SecretString;
use tempfile::TempDir;

const DEFAULT_FOLDER: &str = "ddm-data";

/// DDM on one machine: an info-server and some file servers in one process, and a first verified download
#[derive(Debug, Parser)]
#[command(name = "ddm-local", version, about, mut_arg("log", |arg| arg.default_value("error")))]
pub(crate) struct CommandLine {
    /// End after the first download and its report
    #[arg(long, env = "DDM_ONCE")]
    pub(crate) once: bool,
    /// Folder for everything it keeps [default: ddm-data; with --once a temporary one]
    #[arg(long, env = "DDM_DATA", value_name = "FOLDER")]
    pub(crate) data: Option<PathBuf>,
    /// File servers to run
    #[arg(long, env = "DDM_PROVIDERS", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=64), value_name = "COUNT")]
    pub(crate) providers: u16,
    /// Port of the info-server; the file servers take the next ones; 0 takes free ones
    #[arg(long, env = "DDM_PORT", default_value_t = 8000, value_name = "PORT")]
    pub(crate) port: u16,
    /// Send events through RabbitMQ, e.g. amqp://guest:guest@127.0.0.1:5672/%2f, instead of the embedded default
    #[arg(long, env = "DDM_AMQP_URL", hide_env_values = true, value_name = "URL")]
    pub(crate) amqp: Option<SecretString>,
    /// Settings of the log.
    #[command(flatten)]
    pub(crate) telemetry: Telemetry,
}

/// The folder that everything is kept in.
#[derive(Debug)]
pub(crate) enum Home {
    /// Stays.
    Kept(PathBuf),
    /// Goes with the process.
    Passing(TempDir),
}

impl Home {
    pub(crate) fn choose(line: &CommandLine) -> anyhow::Result<Self> {
        match (&line.data, line.once) {
            (None, true) => Ok(Self::Passing(TempDir::with_prefix("ddm-").context("cannot make a temporary folder")?)),
            (data, _) => {
                let path = data.clone().unwrap_or_else(|| DEFAULT_FOLDER.into());
                std::fs::create_dir_all(&path).with_context(|| format!("cannot make the folder {}", path.display()))?;
                Ok(Self::Kept(path.canonicalize()?))
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Kept(path) => path,
            Self::Passing(folder) => folder.path(),
        }
    }
}
