//! Settings, by concern.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::{Context as _, bail};
use clap::Args;
use lifecycle::private_file;
use secrecy::SecretString;
use wire::token::{Kind, Token};

/// Everything that can be set.
#[derive(Debug, Clone, Args)]
pub struct Config {
    /// Where it listens and what it keeps.
    #[command(flatten)]
    pub place: Place,
    /// Sessions and tokens.
    #[command(flatten)]
    pub access: Access,
    /// Replicas of new files.
    #[command(flatten)]
    pub replication: Replication,
    /// How file servers hear of what was decided.
    #[command(flatten)]
    pub events: Events,
}

/// Where it listens and what it keeps.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Place")]
pub struct Place {
    /// Address and port to listen on; port 0 takes a free one
    #[arg(long, env = "DDM_LISTEN", default_value = "127.0.0.1:8000", value_name = "ADDRESS")]
    pub listen: SocketAddr,
    /// Folder of the database and the secrets
    #[arg(long, env = "DDM_DATA", default_value = "/var/lib/ddm/info-server", value_name = "FOLDER", global = true)]
    pub data: PathBuf,
    /// Connections open at once; further ones wait
    #[arg(long, env = "DDM_MAX_CONNECTIONS", default_value_t = 4096, value_name = "COUNT")]
    pub max_connections: usize,
}

/// Sessions and tokens.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Access")]
pub struct Access {
    /// How long a log-in lasts
    #[arg(long, env = "DDM_SESSION_LIFETIME", default_value = "12h", value_parser = lifecycle::settings::duration, value_name = "TIME")]
    pub session_lifetime: Duration,
    /// How long a download token lasts
    #[arg(long, env = "DDM_DOWNLOAD_LIFETIME", default_value = "15m", value_parser = lifecycle::settings::duration, value_name = "TIME")]
    pub download_lifetime: Duration,
    /// How long an upload may take
    #[arg(long, env = "DDM_UPLOAD_LIFETIME", default_value = "24h", value_parser = lifecycle::settings::duration, value_name = "TIME")]
    pub upload_lifetime: Duration,
    /// Let anyone make a reader's account over HTTP
    #[arg(long, env = "DDM_OPEN_REGISTRATION")]
    pub open_registration: bool,
    /// File with the secret that file servers enrol with; made at the first start [default: join-secret in --data]
    #[arg(long, env = "DDM_JOIN_SECRET_FILE", value_name = "FILE")]
    pub join_secret_file: Option<PathBuf>,
}

/// Replicas of new files.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Replication")]
pub struct Replication {
    /// Servers that should hold a new file, if its publisher does not say
    #[arg(long, env = "DDM_REPLICAS", default_value_t = 3, value_name = "COUNT")]
    pub replicas: u32,
    /// Servers that must hold a new file before it counts as published, if its publisher does not say
    #[arg(long, env = "DDM_QUORUM", default_value_t = 2, value_name = "COUNT")]
    pub quorum: u32,
}

/// How file servers hear of what was decided.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Events")]
pub struct Events {
    /// RabbitMQ, e.g. amqp://user:password@host:5672/vhost; without it file servers poll over HTTP
    #[arg(long, env = "DDM_AMQP_URL", value_name = "URL", hide_env_values = true)]
    pub amqp: Option<SecretString>,
    /// File that holds the RabbitMQ URL, so that it stands in no process list
    #[arg(long, env = "DDM_AMQP_FILE", value_name = "FILE", conflicts_with = "amqp")]
    pub amqp_file: Option<PathBuf>,
    /// How long sent events are kept for file servers that were away; later ones get a snapshot
    #[arg(long, env = "DDM_EVENT_RETENTION", default_value = "24h", value_parser = lifecycle::settings::duration, value_name = "TIME")]
    pub event_retention: Duration,
}

impl Config {
    /// Refuses settings that contradict each other.
    ///
    /// # Errors
    /// What contradicts what, and what to change.
    pub fn check(&self) -> anyhow::Result<()> {
        let Replication { replicas, quorum } = self.replication;
        if quorum == 0 {
            bail!("--quorum must be at least 1");
        }
        if replicas < quorum {
            bail!("--replicas {replicas} is less than --quorum {quorum}: raise one or lower the other");
        }
        if self.place.max_connections == 0 {
            bail!("--max-connections must be at least 1");
        }
        for (name, time) in [
            ("--event-retention", self.events.event_retention),
            ("--session-lifetime", self.access.session_lifetime),
            ("--download-lifetime", self.access.download_lifetime),
            ("--upload-lifetime", self.access.upload_lifetime),
        ] {
            if !(Duration::from_secs(1)..=Duration::from_secs(366 * 24 * 3600)).contains(&time) {
                bail!("{name} must be between 1 second and 1 year");
            }
        }
        Ok(())
    }

    /// The database file.
    pub fn database(&self) -> PathBuf {
        self.place.data.join("catalogue.sqlite")
    }

    /// The join secret; made and synced at the first start.
    ///
    /// # Errors
    /// When the file cannot be read or written, or others can read it.
    pub fn join_secret(&self) -> anyhow::Result<SecretString> {
        let path = self.access.join_secret_file.clone().unwrap_or_else(|| self.place.data.join("join-secret"));
        let context = || format!("the join secret {}", path.display());
        if let Some(secret) = private_file::read(&path).with_context(context)? {
            let secret = secret.trim();
            if secret.len() < 16 {
                bail!("the join secret {} is shorter than 16 characters: anyone could guess it", path.display());
            }
            return Ok(secret.to_owned().into());
        }
        let secret = Token::generate(Kind::Server);
        private_file::write(&path, secret.expose().as_bytes()).with_context(context)?;
        tracing::info!(path = %path.display(), "made the secret that file servers enrol with");
        Ok(secret.expose().to_owned().into())
    }
}

impl Events {
    /// The broker's URL, wherever it stands.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn broker(&self) -> anyhow::Result<Option<SecretString>> {
        match &self.amqp_file {
            None => Ok(self.amqp.clone()),
            Some(path) => {
                let url = private_file::read(path).with_context(|| format!("the RabbitMQ URL {}", path.display()))?;
                let url = url.with_context(|| format!("there is no file {}", path.display()))?;
                Ok(Some(url.trim().to_owned().into()))
            }
        }
    }
}
