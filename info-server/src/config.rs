//! Settings, by concern.

mod zone_pair;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::{Context as _, bail};
use axum::http::HeaderName;
use bus::Amqp;
use clap::Args;
use http_front::limits::LimitSettings;
use ipnet::IpNet;
use lifecycle::{
    data_folder::{self, DataFolder},
    private_file,
    settings::Size,
};
use origin::{OriginConfig, parse_network};
use secrecy::{ExposeSecret as _, SecretString};
use wire::{
    Zone,
    chunks::MAX_FILE_SIZE,
    token::{Token, TokenKind},
};

pub use zone_pair::ZonePairSetting;

/// The file in the data folder that holds the database.
pub(crate) const CATALOGUE_FILE_NAME: &str = "catalogue.sqlite";

/// The settings of an info-server.
#[derive(Debug, Clone, Args)]
pub struct Config {
    /// Listening.
    #[command(flatten)]
    pub listen: Listen,
    /// Storage.
    #[command(flatten)]
    pub storage: Storage,
    /// Sessions and tokens.
    #[command(flatten)]
    pub access: Access,
    /// Replicas of new files.
    #[command(flatten)]
    pub replication: Replication,
    /// The audit log.
    #[command(flatten)]
    pub audit: Audit,
    /// The way of events to file servers.
    #[command(flatten)]
    pub events: Events,
    /// URLs that are fetched together.
    #[command(flatten)]
    pub jobs: Jobs,
    /// Time and memory that a peer may take.
    #[command(flatten)]
    pub peers: LimitSettings,
}

/// Listening address, and the connections to it.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Listening")]
pub struct Listen {
    /// Address and port to listen on; port 0 takes a free one
    #[arg(long, env = "DDM_LISTEN", default_value = "127.0.0.1:8000", value_parser = lifecycle::settings::listen_address, value_name = "ADDRESS")]
    pub listen: SocketAddr,
    /// Connections open at once; further ones wait
    #[arg(long, env = "DDM_MAX_CONNECTIONS", default_value_t = 4096, value_name = "COUNT")]
    pub max_connections: usize,
}

/// The data folder.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Storage")]
pub struct Storage {
    /// Folder of the database and the secrets
    #[arg(long, env = "DDM_DATA", default_value = "/var/lib/ddm/info-server", value_name = "FOLDER", global = true)]
    pub data: PathBuf,
    /// Begin on an empty --data folder; without it an empty folder is taken for that of a disk that is not mounted
    #[arg(long, env = "DDM_INIT", global = true)]
    pub init: bool,
}

/// Sessions and tokens.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Access")]
pub struct Access {
    /// Lifetime of a log-in
    #[arg(long, env = "DDM_SESSION_LIFETIME", default_value = "12h", value_parser = lifecycle::settings::duration, value_name = "TIME")]
    pub session_lifetime: Duration,
    /// Lifetime of a download token
    #[arg(long, env = "DDM_DOWNLOAD_LIFETIME", default_value = "15m", value_parser = lifecycle::settings::duration, value_name = "TIME")]
    pub download_lifetime: Duration,
    /// Longest time that an upload may take
    #[arg(long, env = "DDM_UPLOAD_LIFETIME", default_value = "24h", value_parser = lifecycle::settings::duration, value_name = "TIME")]
    pub upload_lifetime: Duration,
    /// Let anyone make a reader's account over HTTP
    #[arg(long, env = "DDM_OPEN_REGISTRATION")]
    pub open_registration: bool,
    /// Proxies whose forwarding header is trusted, as addresses or networks, separated by commas [default: none]
    #[arg(long, env = "DDM_TRUSTED_PROXIES", value_delimiter = ',', value_parser = parse_network, value_name = "NETWORK")]
    pub trusted_proxies: Vec<IpNet>,
    /// Header in which these proxies name the client, X-Forwarded-For or Forwarded; every other one is ignored
    #[arg(long, env = "DDM_FORWARDED_HEADER", default_value = "X-Forwarded-For", value_parser = header_name, value_name = "HEADER")]
    pub forwarded_header: HeaderName,
    /// File with the secret that file servers enrol with; made at the first start [default: join-secret in --data]
    #[arg(long, env = "DDM_JOIN_SECRET_FILE", value_name = "FILE")]
    pub join_secret_file: Option<PathBuf>,
}

/// Replicas of new files.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Replication")]
pub struct Replication {
    /// Replicas of a new file if its publisher names no number: in each zone that is named, or in all
    #[arg(long, env = "DDM_DEFAULT_REPLICAS", default_value_t = 3, alias = "replicas", value_name = "COUNT")]
    pub default_replicas: u32,
    /// Zones of a new file if its publisher names none; any by default
    #[arg(long, env = "DDM_DEFAULT_ZONES", value_delimiter = ',', value_name = "ZONE")]
    pub default_zones: Vec<Zone>,
    /// Servers that must hold a new file before it is published, if its publisher names no number
    #[arg(long, env = "DDM_QUORUM", default_value_t = 2, value_name = "COUNT")]
    pub quorum: u32,
    /// Cost of traffic between two zones, from 1 to 255, such as eu:us=10; 1 for zones that are not named
    #[arg(long, env = "DDM_ZONE_COST", value_delimiter = ',', value_name = "ZONE:ZONE=COST")]
    pub zone_cost: Vec<ZonePairSetting<u8>>,
    /// Bytes a second that file servers may fetch between two zones for replication, all together, such as eu:us=50MB;
    /// unlimited by default
    #[arg(long, env = "DDM_ZONE_LINK", value_delimiter = ',', value_name = "ZONE:ZONE=SIZE")]
    pub zone_link: Vec<ZonePairSetting<Size>>,
    /// Time for which a file server must be away before its replicas are made again elsewhere
    #[arg(long, env = "DDM_REPAIR_AFTER", default_value = "10m", value_parser = lifecycle::settings::duration, value_name = "TIME")]
    pub repair_after: Duration,
}

/// The audit log.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Audit log")]
pub struct Audit {
    /// Time for which the audit log keeps its rows
    #[arg(long, env = "DDM_AUDIT_AGE", default_value = "90d", value_parser = lifecycle::settings::duration, value_name = "TIME")]
    pub audit_age: Duration,
    /// Rows that the audit log keeps of each kind, so that a flood of one pushes out no other; about 300 bytes each
    #[arg(long, env = "DDM_AUDIT_ROWS", default_value_t = 500_000, value_name = "COUNT")]
    pub audit_rows: u32,
}

/// The way of events to file servers.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Events")]
pub struct Events {
    /// RabbitMQ, e.g. amqp://user:password@host:5672/vhost; without it file servers poll over HTTP
    #[arg(long, env = "DDM_AMQP_URL", value_name = "URL", hide_env_values = true)]
    pub amqp: Option<SecretString>,
    /// File with the RabbitMQ URL, so that it appears in no process list
    #[arg(long, env = "DDM_AMQP_FILE", value_name = "FILE", conflicts_with = "amqp")]
    pub amqp_file: Option<PathBuf>,
    /// Time for which events are kept for file servers that are away; after that they get a snapshot
    #[arg(long, env = "DDM_EVENT_RETENTION", default_value = "24h", value_parser = lifecycle::settings::duration, value_name = "TIME")]
    pub event_retention: Duration,
}

/// URLs that are fetched together.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Jobs")]
pub struct Jobs {
    /// The smallest file that is fetched together; clients fetch smaller ones alone
    #[arg(long, env = "DDM_JOB_MIN_SIZE", default_value = "8MiB", value_parser = lifecycle::settings::size, value_name = "SIZE")]
    pub job_min_size: u64,
    /// The largest file that is fetched together
    #[arg(long, env = "DDM_JOB_MAX_SIZE", default_value = "1TiB", value_parser = lifecycle::settings::size, value_name = "SIZE")]
    pub job_max_size: u64,
    /// Jobs that one account may take part in at once, scheduled and kept ones included
    #[arg(long, env = "DDM_JOBS_PER_USER", default_value_t = 16, value_name = "COUNT")]
    pub jobs_per_user: u32,
    /// Connections to one origin at once, of all file servers and jobs together
    #[arg(long, env = "DDM_ORIGIN_CONNECTIONS", default_value_t = 32, value_name = "COUNT")]
    pub origin_connections: u32,
    /// Time after which a job goes on without a client that shows no sign of life, or stops
    #[arg(id = "asker_grace", long = "asker-grace", env = "DDM_ASKER_GRACE", default_value = "30s", value_parser = lifecycle::settings::duration, value_name = "TIME")]
    pub requester_grace: Duration,
    /// Time for which a failed or stopped job is kept, so that a client that asks again resumes it
    #[arg(long, env = "DDM_JOB_MEMORY", default_value = "1h", value_parser = lifecycle::settings::duration, value_name = "TIME")]
    pub job_memory: Duration,
    /// Time for which a kept result stays
    #[arg(long, env = "DDM_KEEP_FOR", default_value = "7d", value_parser = lifecycle::settings::duration, value_name = "TIME")]
    pub keep_for: Duration,
    /// Access to origins
    #[command(flatten)]
    pub reach: OriginConfig,
}

impl Config {
    /// Refuses settings that contradict each other.
    ///
    /// # Errors
    /// The settings that contradict each other, and what to change.
    pub fn check(&self) -> anyhow::Result<()> {
        let Replication { default_replicas: replicas, quorum, .. } = self.replication;
        if quorum == 0 {
            bail!("--quorum must be at least 1");
        }
        if replicas < quorum {
            bail!("--default-replicas {replicas} is less than --quorum {quorum}: raise one or lower the other");
        }
        if self.listen.max_connections == 0 {
            bail!("--max-connections must be at least 1");
        }
        for (name, time) in [
            ("--event-retention", self.events.event_retention),
            ("--audit-age", self.audit.audit_age),
            ("--session-lifetime", self.access.session_lifetime),
            ("--download-lifetime", self.access.download_lifetime),
            ("--upload-lifetime", self.access.upload_lifetime),
        ] {
            if !(Duration::from_secs(1)..=Duration::from_secs(366 * 24 * 3600)).contains(&time) {
                bail!("{name} must be between 1 second and 1 year");
            }
        }
        self.jobs.check()?;
        if self.audit.audit_rows == 0 {
            bail!("--audit-rows must be at least 1");
        }
        self.peers.check()
    }

    /// Returns the settings that decide who may do what, for the audit log.
    pub(crate) fn audited(&self) -> serde_json::Value {
        let Access { session_lifetime, download_lifetime, upload_lifetime, .. } = &self.access;
        serde_json::json!({
            "open_registration": self.access.open_registration,
            "trusted_proxies": self.access.trusted_proxies.iter().map(IpNet::to_string).collect::<Vec<_>>(),
            "session_lifetime_s": session_lifetime.as_secs(),
            "download_lifetime_s": download_lifetime.as_secs(),
            "upload_lifetime_s": upload_lifetime.as_secs(),
            "listen": self.listen.listen.to_string(),
            "broker": self.events.amqp.is_some() || self.events.amqp_file.is_some(),
            "audit_age_s": self.audit.audit_age.as_secs(),
            "audit_rows": self.audit.audit_rows,
        })
    }

    /// Returns the path of the database.
    pub fn database(&self) -> PathBuf {
        self.storage.data.join(CATALOGUE_FILE_NAME)
    }

    /// Returns the path of the database that a server made, for a command beside the server.
    ///
    /// # Errors
    /// When no server ever worked on the data folder.
    pub(crate) fn existing_database(&self) -> anyhow::Result<PathBuf> {
        data_folder::file_of_server(&self.storage.data, CATALOGUE_FILE_NAME, "catalogue")
    }

    /// Makes the data folder at the first start.
    ///
    /// # Errors
    /// When its disk seems not to be mounted, and the file system's.
    pub(crate) fn prepare_data_folder(&self, init: bool) -> anyhow::Result<()> {
        DataFolder { path: &self.storage.data, evidence: &[CATALOGUE_FILE_NAME], mode: 0o700, init }.prepare()
    }

    /// Returns the join secret; makes and syncs it at the first start.
    ///
    /// # Errors
    /// When the file cannot be read or written, or others can read it.
    pub fn join_secret(&self) -> anyhow::Result<SecretString> {
        let path = self.access.join_secret_file.clone().unwrap_or_else(|| self.storage.data.join("join-secret"));
        let context = || format!("the join secret {}", path.display());
        if let Some(secret) = private_file::read(&path).with_context(context)? {
            let secret = secret.trim();
            if secret.len() < 16 {
                bail!("the join secret {} is shorter than 16 characters: anyone could guess it", path.display());
            }
            return Ok(secret.to_owned().into());
        }
        let secret = Token::generate(TokenKind::Server);
        private_file::write(&path, secret.expose().as_bytes()).with_context(context)?;
        tracing::info!(path = %path.display(), "Made the secret that file servers enrol with: {}",
            path.display());
        Ok(secret.expose().to_owned().into())
    }
}

impl Jobs {
    fn check(&self) -> anyhow::Result<()> {
        if self.job_min_size > self.job_max_size {
            bail!(
                "--job-min-size {} is more than --job-max-size {}: raise one or lower the other",
                self.job_min_size,
                self.job_max_size
            );
        }
        if self.job_max_size > MAX_FILE_SIZE {
            bail!("--job-max-size must be at most {MAX_FILE_SIZE}");
        }
        for (name, count) in
            [("--jobs-per-user", self.jobs_per_user), ("--origin-connections", self.origin_connections)]
        {
            if count == 0 {
                bail!("{name} must be at least 1");
            }
        }
        for (name, time) in
            [("--asker-grace", self.requester_grace), ("--job-memory", self.job_memory), ("--keep-for", self.keep_for)]
        {
            if !(Duration::from_secs(1)..=Duration::from_secs(366 * 24 * 3600)).contains(&time) {
                bail!("{name} must be between 1 second and 1 year");
            }
        }
        Ok(())
    }
}

impl Events {
    /// Returns the bus on the broker that the setting or its file names, if one does. The file is read again before each connection.
    ///
    /// # Errors
    /// When the file cannot be read, or names no broker.
    pub fn broker(&self) -> anyhow::Result<Option<Amqp>> {
        let Some(path) = self.amqp_file.clone() else {
            return Ok(self.amqp.as_ref().map(|url| Amqp::new(url.expose_secret())).transpose()?);
        };
        let url = private_file::read_required(&path).with_context(|| format!("the RabbitMQ URL {}", path.display()))?;
        Ok(Some(Amqp::reading(&url, Box::new(move || private_file::read_required(&path)))?))
    }
}

/// Parses the name of a header.
fn header_name(text: &str) -> Result<HeaderName, String> {
    text.parse().map_err(|_| "use the name of a header such as X-Forwarded-For or Forwarded".to_owned())
}
