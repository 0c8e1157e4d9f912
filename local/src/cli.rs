//! The command line.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Parser;
use lifecycle::telemetry::Telemetry;
use secrecy::SecretString;
use tempfile::TempDir;

const DEFAULT_FOLDER: &str = "ddm-data";

/// Run an info-server and file servers in one process, and try a first verified download
#[derive(Debug, Parser)]
#[command(name = "ddm-local", version, about, mut_arg("log", |arg| arg.default_value("error")))]
pub(crate) struct CommandLine {
    /// Exit after the first download
    #[arg(long, env = "DDM_ONCE")]
    pub(crate) once: bool,
    /// Folder for all data [default: ddm-data; a temporary folder with --once]
    #[arg(long, env = "DDM_DATA", value_name = "FOLDER")]
    pub(crate) data: Option<PathBuf>,
    /// Number of file servers
    #[arg(long, env = "DDM_PROVIDERS", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=64), value_name = "COUNT")]
    pub(crate) providers: u16,
    /// Port of the info-server; the file servers use the next ones. 0 chooses free ports
    #[arg(long, env = "DDM_PORT", default_value_t = 8000, value_name = "PORT")]
    pub(crate) port: u16,
    /// Send events through RabbitMQ, e.g. amqp://guest:guest@127.0.0.1:5672/%2f [default: by long poll]
    #[arg(long, env = "DDM_AMQP_URL", hide_env_values = true, value_name = "URL")]
    pub(crate) amqp: Option<SecretString>,
    /// Options of the log.
    #[command(flatten)]
    pub(crate) telemetry: Telemetry,
}

/// Folder of all data.
#[derive(Debug)]
pub(crate) enum Home {
    /// Kept after the exit.
    Kept(PathBuf),
    /// Deleted at the exit.
    Temporary(TempDir),
}

impl Home {
    pub(crate) fn choose(line: &CommandLine) -> anyhow::Result<Self> {
        match (&line.data, line.once) {
            (None, true) => {
                Ok(Self::Temporary(TempDir::with_prefix("ddm-").context("cannot create a temporary folder")?))
            }
            (data, _) => {
                let path = data.clone().unwrap_or_else(|| DEFAULT_FOLDER.into());
                std::fs::create_dir_all(&path)
                    .with_context(|| format!("cannot create the folder {}", path.display()))?;
                Ok(Self::Kept(path.canonicalize()?))
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Kept(path) => path,
            Self::Temporary(folder) => folder.path(),
        }
    }
}
