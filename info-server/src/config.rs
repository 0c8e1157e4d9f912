//! Settings, by concern.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context as _, bail};
use clap::Args;
use ipnet::IpNet;
use jiff::Timestamp;
use lifecycle::{listen::Bounds, private_file};
use origin::Reach;
use secrecy::SecretString;
use wire::{
    Zone,
    chunks::MAX_FILE_SIZE,
    token::{Kind as TokenKind, Token},
};

use crate::{
    registry::LEASE,
    replication::links::Between,
    store::{
        Store,
        audit::{self, Deed, Kind},
    },
};

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
    /// The audit log.
    #[command(flatten)]
    pub audit: Audit,
    /// How file servers hear of what was decided.
    #[command(flatten)]
    pub events: Events,
    /// URLs that are fetched together.
    #[command(flatten)]
    pub jobs: Jobs,
    /// How long and how much a peer may take.
    #[command(flatten)]
    pub peers: Bounds,
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
    /// Proxies whose X-Forwarded-For is believed, as addresses or networks, separated by commas [default: none]
    #[arg(long, env = "DDM_TRUSTED_PROXIES", value_delimiter = ',', value_parser = network, value_name = "NETWORK")]
    pub trusted_proxies: Vec<IpNet>,
    /// File with the secret that file servers enrol with; made at the first start [default: join-secret in --data]
    #[arg(long, env = "DDM_JOIN_SECRET_FILE", value_name = "FILE")]
    pub join_secret_file: Option<PathBuf>,
}

/// Replicas of new files.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Replication")]
pub struct Replication {
    /// Servers that should hold a new file, if its publisher does not say: of each zone when zones are named, in all when
    /// none are
    #[arg(long, env = "DDM_DEFAULT_REPLICAS", default_value_t = 3, alias = "replicas", value_name = "COUNT")]
    pub default_replicas: u32,
    /// Zones that a new file should stand in, if its publisher does not say; any by default
    #[arg(long, env = "DDM_DEFAULT_ZONES", value_delimiter = ',', value_name = "ZONE")]
    pub default_zones: Vec<Zone>,
    /// Servers that must hold a new file before it counts as published, if its publisher does not say
    #[arg(long, env = "DDM_QUORUM", default_value_t = 2, value_name = "COUNT")]
    pub quorum: u32,
    /// How far two zones are from each other, from 1 to 255, such as eu:us=10; 1 for those not named
    #[arg(long, env = "DDM_ZONE_COST", value_delimiter = ',', value_name = "ZONE:ZONE=COST")]
    pub zone_cost: Vec<Between<u8>>,
    /// What file servers may fetch between two zones when they replicate, all of them together, in bytes a second, such as
    /// eu:us=50000000; not limited by default
    #[arg(long, env = "DDM_ZONE_LINK", value_delimiter = ',', value_name = "ZONE:ZONE=BYTES")]
    pub zone_link: Vec<Between<u64>>,
    /// How long a file server must be away before its replicas are made again elsewhere
    #[arg(long, env = "DDM_REPAIR_AFTER", default_value = "10m", value_parser = lifecycle::settings::duration, value_name = "TIME")]
    pub repair_after: Duration,
}

/// The audit log.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Audit log")]
pub struct Audit {
    /// How long the audit log remembers
    #[arg(long, env = "DDM_AUDIT_AGE", default_value = "90d", value_parser = lifecycle::settings::duration, value_name = "TIME")]
    pub audit_age: Duration,
    /// Rows that the audit log keeps of each kind, so that a flood of one pushes out no other; about 300 bytes each
    #[arg(long, env = "DDM_AUDIT_ROWS", default_value_t = 500_000, value_name = "COUNT")]
    pub audit_rows: u32,
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

/// URLs that are fetched together.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Jobs")]
pub struct Jobs {
    /// The smallest file that is fetched together, in bytes; smaller ones are left to whoever asks
    #[arg(long, env = "DDM_JOB_MIN_SIZE", default_value_t = 8 << 20, value_name = "BYTES")]
    pub job_min_size: u64,
    /// The largest file that is fetched together, in bytes
    #[arg(long, env = "DDM_JOB_MAX_SIZE", default_value_t = 1 << 40, value_name = "BYTES")]
    pub job_max_size: u64,
    /// Jobs that one account may take part in at once, scheduled and kept ones included
    #[arg(long, env = "DDM_JOBS_PER_USER", default_value_t = 16, value_name = "COUNT")]
    pub jobs_per_user: u32,
    /// Connections to one origin at once, of all file servers and jobs together
    #[arg(long, env = "DDM_ORIGIN_CONNECTIONS", default_value_t = 32, value_name = "COUNT")]
    pub origin_connections: u32,
    /// How long somebody who asked for a job may not be heard of before it goes on without them, or stops
    #[arg(long, env = "DDM_ASKER_GRACE", default_value = "30s", value_parser = lifecycle::settings::duration, value_name = "TIME")]
    pub asker_grace: Duration,
    /// How long a job that failed or stopped is remembered, so that whoever asks again goes on with what they have
    #[arg(long, env = "DDM_JOB_MEMORY", default_value = "1h", value_parser = lifecycle::settings::duration, value_name = "TIME")]
    pub job_memory: Duration,
    /// How long a result stays that is to be kept
    #[arg(long, env = "DDM_KEEP_FOR", default_value = "7d", value_parser = lifecycle::settings::duration, value_name = "TIME")]
    pub keep_for: Duration,
    /// What may be fetched, and how
    #[command(flatten)]
    pub reach: Reach,
}

impl Config {
    /// Refuses settings that contradict each other.
    ///
    /// # Errors
    /// What contradicts what, and what to change.
    pub fn check(&self) -> anyhow::Result<()> {
        let Replication { default_replicas: replicas, quorum, repair_after, .. } = self.replication;
        if quorum == 0 {
            bail!("--quorum must be at least 1");
        }
        if replicas < quorum {
            bail!("--default-replicas {replicas} is less than --quorum {quorum}: raise one or lower the other");
        }
        if repair_after < LEASE {
            bail!(
                "--repair-after must be at least {} seconds: sooner nobody knows that a server is away",
                LEASE.as_secs()
            );
        }
        if self.place.max_connections == 0 {
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

    /// Writes the settings that decide who may do what into the audit log, if they are others than the last time.
    ///
    /// # Errors
    /// The database's.
    pub async fn note_changes(&self, store: &Store) -> anyhow::Result<()> {
        let Access { session_lifetime, download_lifetime, upload_lifetime, .. } = &self.access;
        let detail = serde_json::json!({
            "open_registration": self.access.open_registration,
            "trusted_proxies": self.access.trusted_proxies.iter().map(IpNet::to_string).collect::<Vec<_>>(),
            "session_lifetime_s": session_lifetime.as_secs(),
            "download_lifetime_s": download_lifetime.as_secs(),
            "upload_lifetime_s": upload_lifetime.as_secs(),
            "listen": self.place.listen.to_string(),
            "broker": self.events.amqp.is_some() || self.events.amqp_file.is_some(),
            "audit_age_s": self.audit.audit_age.as_secs(),
            "audit_rows": self.audit.audit_rows,
        });
        let last = store.audit(None, 1, Some(Kind::Settings)).await?;
        if last.first().is_some_and(|last| last.detail.as_ref() == Some(&detail)) {
            return Ok(());
        }
        let mut write = store.write().await?;
        audit::record(&mut write, &[Deed::new(Kind::Settings).with(detail)], Timestamp::now()).await?;
        Ok(write.commit().await?)
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
        let secret = Token::generate(TokenKind::Server);
        private_file::write(&path, secret.expose().as_bytes()).with_context(context)?;
        tracing::info!(path = %path.display(), "made the secret that file servers enrol with");
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
            [("--asker-grace", self.asker_grace), ("--job-memory", self.job_memory), ("--keep-for", self.keep_for)]
        {
            if !(Duration::from_secs(1)..=Duration::from_secs(366 * 24 * 3600)).contains(&time) {
                bail!("{name} must be between 1 second and 1 year");
            }
        }
        Ok(())
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

/// A network, or an address alone.
fn network(text: &str) -> Result<IpNet, String> {
    let alone = || text.parse::<IpAddr>().map(IpNet::from);
    text.parse().or_else(|_| alone()).map_err(|_| "use an address or a network such as 10.0.0.0/8".to_owned())
}
