//! Settings: one struct per concern; each setting states its unit, default and variable. Contradictions refuse to start.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use chunk_store::Reserve;
use clap::Args;
use http_front::limits::LimitSettings;
use lifecycle::data_folder::{self, DataFolder};
use origin::OriginConfig;
use secrecy::SecretString;
use url::Url;
use wire::Zone;

use crate::upstream::advertised_address::PublicUrl;

mod commands;
mod last_start;
mod upstream_secrets;

pub use commands::{Adopt, Cli, Command, Import, Login, OrphanCommand};
pub(crate) use last_start::LastStart;

/// The settings file that is read when none is named.
pub const DEFAULT_FILE: &str = "/etc/ddm/file-server.toml";

/// The files in the data folder that hold the identity and the database.
pub(crate) const IDENTITY_FILE_NAME: &str = "identity.json";
pub(crate) const DATABASE_FILE_NAME: &str = "file-server.db";

/// All settings of one file server.
#[derive(Debug, Clone, Args)]
pub struct Config {
    /// Listening.
    #[command(flatten)]
    pub listen: Listen,
    /// Storage.
    #[command(flatten)]
    pub storage: Storage,
    /// Info-server and broker.
    #[command(flatten)]
    pub upstream: Upstream,
    /// Limits.
    #[command(flatten)]
    pub limits: Limits,
    /// Bounds on connections.
    #[command(flatten)]
    pub peers: LimitSettings,
    /// Replication.
    #[command(flatten)]
    pub replication: Replication,
    /// Fetches of URLs.
    #[command(flatten)]
    pub fetching: Fetching,
    /// Access to the origins of URLs.
    #[command(flatten)]
    pub reach: OriginConfig,
}

/// Listening address, public address and zone.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Listening")]
pub struct Listen {
    /// The address to listen on; port 0 takes any free one
    #[arg(long, env = "DDM_LISTEN", default_value = "127.0.0.1:9000", value_parser = lifecycle::settings::listen_address, value_name = "ADDRESS", global = true)]
    pub listen: SocketAddr,
    /// The address at which clients reach this server, or `auto`: this machine's own on the way to the info-server [default:
    /// that of --listen]
    #[arg(long, env = "DDM_PUBLIC_URL", value_name = "URL", global = true)]
    pub public_url: Option<PublicUrl>,
    /// The zone of this server: the name of its site or network
    #[arg(long, env = "DDM_ZONE", default_value = "default", global = true)]
    pub zone: Zone,
}

/// Folders, and the space that stays free.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Storage")]
pub struct Storage {
    /// The folder for everything this server stores; one process at a time
    #[arg(long, env = "DDM_DATA", default_value = "/var/lib/ddm/file-server", value_name = "FOLDER", global = true)]
    pub data: PathBuf,
    /// Begin on an empty --data folder; without it an empty folder is taken for that of a disk that is not mounted
    #[arg(long, env = "DDM_INIT", global = true)]
    pub init: bool,
    /// A folder that several servers share, instead of --data: each uses the first free slot
    #[arg(long, env = "DDM_SLOTS", value_name = "FOLDER", global = true, conflicts_with = "data")]
    pub slots: Option<PathBuf>,
    /// The folder for files still being received, on the same file system [default: partial in --data]
    #[arg(long, env = "DDM_PARTIAL_DIR", value_name = "FOLDER", global = true)]
    pub partial_dir: Option<PathBuf>,
    /// Space of the volume that stays free, as a size or as a part of it such as 5%; below it no files are received
    #[arg(long, env = "DDM_RESERVE", default_value = "64MiB", value_name = "SIZE", global = true)]
    pub reserve: Reserve,
}

/// The info-server, and the broker of its events.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Info-server and broker")]
pub struct Upstream {
    /// The address of the info-server
    #[arg(long, env = "DDM_INFO_URL", default_value = "http://127.0.0.1:8000", value_parser = lifecycle::settings::info_server_url, value_name = "URL", global = true)]
    pub info: Url,
    /// A file (mode 0600) that holds the secret with which this server enrols once
    #[arg(long, env = "DDM_JOIN_SECRET_FILE", value_name = "FILE", global = true)]
    pub join_secret_file: Option<PathBuf>,
    /// The same secret itself; prefer the file, others can see a process's arguments
    #[arg(long, env = "DDM_JOIN_SECRET", hide_env_values = true, value_name = "SECRET", hide = true, global = true)]
    pub join_secret: Option<SecretString>,
    /// The URL of the broker; without one, events are fetched from the info-server as they happen
    #[arg(long, env = "DDM_AMQP_URL", hide_env_values = true, value_name = "URL", global = true)]
    pub amqp: Option<SecretString>,
    /// A file (mode 0600) that holds the broker's URL with its password
    #[arg(long, env = "DDM_AMQP_FILE", value_name = "FILE", global = true)]
    pub amqp_file: Option<PathBuf>,
}

/// Limits of what the server uses.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Limits")]
pub struct Limits {
    /// Connections open at once; further ones wait
    #[arg(long, env = "DDM_MAX_CONNECTIONS", default_value_t = 4096, value_name = "N", global = true)]
    pub max_connections: usize,
    /// Tokens kept in memory; further ones are looked up on disk
    #[arg(long, env = "DDM_TOKEN_CACHE", default_value_t = 65_536, value_name = "N", global = true)]
    pub token_cache: u64,
    /// Tokens kept on disk; beyond that those that expire first are dropped, and looked up at the info-server when used
    #[arg(long, env = "DDM_TOKENS", default_value_t = 1_000_000, value_name = "N", global = true)]
    pub tokens: u32,
    /// Blobs kept open between requests
    #[arg(long, env = "DDM_OPEN_FILES", default_value_t = 512, value_name = "N", global = true)]
    pub open_files: usize,
    /// Bytes of content a second sent to all clients together, such as 100MiB [default: unlimited]
    #[arg(long, env = "DDM_MAX_RATE", value_parser = lifecycle::settings::size, value_name = "SIZE", global = true)]
    pub max_rate: Option<u64>,
    /// Bytes of content a second sent to the holder of one token, over all its connections [default: unlimited]
    #[arg(long, env = "DDM_MAX_RATE_PER_CLIENT", value_parser = lifecycle::settings::size, value_name = "SIZE", global = true)]
    pub max_rate_per_client: Option<u64>,
}

/// Replication and verification.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Replication")]
pub struct Replication {
    /// Files fetched from other servers at a time
    #[arg(long, env = "DDM_REPLICATIONS", default_value_t = 2, value_name = "N", global = true)]
    pub replications: usize,
    /// Share of a zone's files that it should store, relative to the other servers; 0 receives no new ones
    #[arg(long, env = "DDM_WEIGHT", default_value_t = 1, value_name = "N", global = true)]
    pub weight: u32,
    /// Time between two verifications of everything stored
    #[arg(long, env = "DDM_SCRUB_EVERY", default_value = "7days", value_name = "TIME", global = true)]
    pub scrub_every: humantime::Duration,
    /// Bytes a second read for verification
    #[arg(long, env = "DDM_SCRUB_RATE", default_value = "32MiB", value_parser = lifecycle::settings::size, value_name = "SIZE", global = true)]
    pub scrub_rate: u64,
}

/// Fetches of URLs for jobs.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Origins of URLs")]
pub struct Fetching {
    /// URLs whose spans are fetched at a time; 0 fetches none
    #[arg(long, env = "DDM_FETCHES", default_value_t = 4, value_name = "N", global = true)]
    pub fetches: usize,
}

impl Config {
    /// Checks the settings against each other.
    ///
    /// # Errors
    /// With the names of settings that contradict each other, and what to do.
    pub fn check(&self) -> anyhow::Result<()> {
        let Listen { listen, public_url, .. } = &self.listen;
        anyhow::ensure!(
            public_url.is_some() || !listen.ip().is_unspecified(),
            "--listen {listen} names no address that clients could reach: name one with --public-url"
        );
        if let Some(PublicUrl::Named(url)) = public_url {
            check_base("--public-url", url)?;
        }
        check_base("--info", &self.upstream.info)?;
        anyhow::ensure!(
            self.storage.slots.is_none() || self.storage.partial_dir.is_none(),
            "--slots gives every server a folder of its own, --partial-dir all of them the same one: drop one"
        );
        let Upstream { join_secret_file, join_secret, amqp, amqp_file, .. } = &self.upstream;
        anyhow::ensure!(
            join_secret.is_none() || join_secret_file.is_none(),
            "--join-secret and --join-secret-file both give the join secret: drop one"
        );
        anyhow::ensure!(
            amqp.is_none() || amqp_file.is_none(),
            "--amqp and --amqp-file both give the broker's URL: drop one"
        );
        for (name, zero) in [
            ("--max-connections", self.limits.max_connections == 0),
            ("--token-cache", self.limits.token_cache == 0),
            ("--tokens", self.limits.tokens == 0),
            ("--open-files", self.limits.open_files == 0),
            ("--replications", self.replication.replications == 0),
            ("--scrub-rate", self.replication.scrub_rate == 0),
            ("--max-rate", self.limits.max_rate.is_some_and(|rate| rate == 0)),
            ("--max-rate-per-client", self.limits.max_rate_per_client.is_some_and(|rate| rate == 0)),
        ] {
            anyhow::ensure!(!zero, "{name} must be at least 1");
        }
        anyhow::ensure!(
            *self.replication.scrub_every >= Duration::from_secs(1),
            "--scrub-every must be at least 1s; use a long time, such as 1year, to verify rarely"
        );
        self.peers.check()
    }

    /// Returns the path of the database that a server made, for a command beside the server.
    ///
    /// # Errors
    /// When no server ever worked on the data folder.
    pub(crate) fn existing_database(&self) -> anyhow::Result<PathBuf> {
        data_folder::file_of_server(&self.storage.data, DATABASE_FILE_NAME, "database")
    }

    /// Returns the folder of files that are not complete.
    pub(crate) fn partial_folder(&self) -> PathBuf {
        self.storage.partial_dir.clone().unwrap_or_else(|| self.storage.data.join("partial"))
    }
}

/// Returns the data folder at `path`, with the names that show that a server has worked on it.
pub(crate) const fn data_folder(path: &Path, init: bool) -> DataFolder<'_> {
    DataFolder { path, evidence: &[IDENTITY_FILE_NAME, DATABASE_FILE_NAME], mode: 0o750, init }
}

/// Checks that routes can be appended to an address.
fn check_base(setting: &str, url: &Url) -> anyhow::Result<()> {
    anyhow::ensure!(
        matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none(),
        "{setting} must be an address such as http://10.0.0.7:9000, without user, query or fragment"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn parse(args: &[&str]) -> Config {
        Cli::parse_from(std::iter::once("ddm-file-server").chain(args.iter().copied())).config
    }

    #[test]
    fn the_defaults_are_sound_and_the_command_line_is_consistent() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
        parse(&[]).check().unwrap();
    }

    #[test]
    fn contradictions_refuse_to_start_and_name_the_setting() {
        for (args, why) in [
            (&["--listen", "0.0.0.0:9000"][..], "--public-url"),
            (&["--public-url", "ftp://x"], "--public-url"),
            (&["--public-url", "http://u:p@x/"], "--public-url"),
            (&["--slots", "a", "--partial-dir", "b"], "--slots"),
            (&["--info", "http://x/?a=b"], "--info"),
            (&["--join-secret", "a", "--join-secret-file", "b"], "--join-secret"),
            (&["--amqp", "amqp://x", "--amqp-file", "b"], "--amqp"),
            (&["--max-connections", "0"], "--max-connections"),
            (&["--head-timeout", "1h"], "--head-timeout"),
            (&["--scrub-every", "0s"], "--scrub-every"),
        ] {
            let error = parse(args).check().unwrap_err().to_string();
            assert!(error.contains(why), "{args:?}: {error}");
        }
    }

    #[test]
    fn secrets_are_not_shown_by_formatters() {
        let config = parse(&["--join-secret", "hunter2", "--amqp", "amqp://u:hunter2@x"]);
        assert!(!format!("{config:?}").contains("hunter2"));
    }
}
