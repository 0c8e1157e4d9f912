//! Settings: one struct per concern; each says its unit, default and variable. Contradictions refuse to start.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use bytesize::ByteSize;
use clap::{Args, Parser, Subcommand};
use lifecycle::{listen::Bounds, private_file, telemetry::Telemetry};
use origin::Reach;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::Instant;
use url::Url;
use wire::Zone;

use crate::{PublicUrl, Reserve};

/// Where settings are looked for when no file is named.
pub const DEFAULT_FILE: &str = "/etc/ddm/file-server.toml";

/// How long the file of the join secret may take to appear, and how often to look.
const SECRET_WAIT: Duration = Duration::from_secs(10);
const SECRET_LOOK: Duration = Duration::from_millis(100);

/// Stores and serves the chunks of files in one zone
#[derive(Debug, Clone, Parser)]
#[command(name = "ddm-file-server", version, about)]
pub struct Cli {
    /// How log lines are written.
    #[command(flatten)]
    pub telemetry: Telemetry,
    /// Everything about the server.
    #[command(flatten)]
    pub config: Config,
    /// What to do; serve when absent.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What the program can do.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Serve until SIGTERM or SIGINT (the default)
    Serve,
    /// Publish files through this server
    Import(Import),
    /// List, remove or adopt files that are held here and that the catalogue does not know, as after the restore of an older backup:
    /// they are kept and not served until you decide
    #[command(subcommand)]
    Unknown(Unknown),
    /// Ask the server on this machine whether it is ready; exit status 1 if not
    Healthcheck,
    /// Print the completions for a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

/// What to publish, and as whom.
#[derive(Debug, Clone, Args)]
pub struct Import {
    /// Regular files to publish
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// The name to publish under; for one file only [default: the file's own]
    #[arg(long)]
    pub name: Option<wire::FileName>,
    /// On how many servers the file should stand [default: the info-server's setting]
    #[arg(long, env = "DDM_REPLICAS")]
    pub replicas: Option<u32>,
    /// How many servers must hold it before it counts as published [default: the info-server's setting]
    #[arg(long, env = "DDM_QUORUM")]
    pub quorum: Option<u32>,
    /// As whom.
    #[command(flatten)]
    pub login: Login,
}

/// What to do with files that the catalogue does not know; the server may run meanwhile.
#[derive(Debug, Clone, Subcommand)]
pub enum Unknown {
    /// List them: id, size, and how much of it is here
    List {
        /// Print one JSON object a line instead of text
        #[arg(long)]
        json: bool,
    },
    /// Remove their bytes for good
    Remove {
        /// Their ids
        #[arg(required_unless_present = "all", value_name = "ID")]
        files: Vec<wire::FileId>,
        /// Everything that the catalogue does not know
        #[arg(long, conflicts_with = "files")]
        all: bool,
    },
    /// Put a whole one back into the catalogue, under its id; every byte is read and compared with its digest first
    Adopt {
        /// Its id
        #[arg(value_name = "ID")]
        file: wire::FileId,
        /// The name it gets: file servers know none
        #[arg(long)]
        name: wire::FileName,
        /// On how many servers the file should stand [default: the info-server's setting]
        #[arg(long, env = "DDM_REPLICAS")]
        replicas: Option<u32>,
        /// As whom.
        #[command(flatten)]
        login: Login,
    },
}

/// As whom something is published.
#[derive(Debug, Clone, Args)]
pub struct Login {
    /// The publisher's account; asked for on the terminal when absent
    #[arg(long, env = "DDM_EMAIL")]
    pub email: Option<String>,
    /// A session token, instead of a login; prefer the variable or the file, others can see a process's arguments
    #[arg(long, env = "DDM_SESSION_TOKEN", hide_env_values = true, value_name = "TOKEN", hide = true)]
    pub session_token: Option<SecretString>,
    /// A file (mode 0600) that holds a session token, instead of a login; DDM_SESSION_TOKEN holds one itself
    #[arg(long, env = "DDM_SESSION_TOKEN_FILE", value_name = "FILE")]
    pub session_token_file: Option<PathBuf>,
}

/// Everything one file server needs to know.
#[derive(Debug, Clone, Args)]
pub struct Config {
    /// Where it listens.
    #[command(flatten)]
    pub listen: Listen,
    /// Where it keeps things.
    #[command(flatten)]
    pub storage: Storage,
    /// Whom it belongs to.
    #[command(flatten)]
    pub upstream: Upstream,
    /// How much it may use.
    #[command(flatten)]
    pub limits: Limits,
    /// How long and how much a peer may take.
    #[command(flatten)]
    pub peers: Bounds,
    /// How replicas come here and stay whole.
    #[command(flatten)]
    pub replication: Replication,
    /// How much it fetches of URLs for others.
    #[command(flatten)]
    pub fetching: Fetching,
    /// How the origins of URLs are reached.
    #[command(flatten)]
    pub reach: Reach,
}

/// Where the server listens and how others reach it.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Listening")]
pub struct Listen {
    /// The address to listen on; port 0 takes any free one
    #[arg(long, env = "DDM_LISTEN", default_value = "127.0.0.1:9000", value_name = "ADDRESS", global = true)]
    pub listen: SocketAddr,
    /// The address at which clients reach this server, or `auto`: this machine's own on the way to the info-server [default:
    /// that of --listen]
    #[arg(long, env = "DDM_PUBLIC_URL", value_name = "URL", global = true)]
    pub public_url: Option<PublicUrl>,
    /// The name of the place where this server stands
    #[arg(long, env = "DDM_ZONE", default_value = "default", global = true)]
    pub zone: Zone,
}

/// Where the server keeps things.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Storage")]
pub struct Storage {
    /// The folder for everything this server keeps; one process at a time
    #[arg(long, env = "DDM_DATA", default_value = "/var/lib/ddm/file-server", value_name = "FOLDER", global = true)]
    pub data: PathBuf,
    /// A folder that several servers share, instead of --data: each keeps everything in the first slot that is free
    #[arg(long, env = "DDM_SLOTS", value_name = "FOLDER", global = true, conflicts_with = "data")]
    pub slots: Option<PathBuf>,
    /// The folder for files still being received, on the same file system [default: partial in --data]
    #[arg(long, env = "DDM_PARTIAL_DIR", value_name = "FOLDER", global = true)]
    pub partial_dir: Option<PathBuf>,
    /// How much of the volume stays free, as a size or as a part of it such as 5%: below it nothing is taken in
    #[arg(long, env = "DDM_RESERVE", default_value = "64MiB", value_name = "SIZE", global = true)]
    pub reserve: Reserve,
}

/// Whom the server belongs to, and how facts reach it.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Info-server and broker")]
pub struct Upstream {
    /// The info-server
    #[arg(long, env = "DDM_INFO_URL", default_value = "http://127.0.0.1:8000", value_name = "URL", global = true)]
    pub info: Url,
    /// A file (mode 0600) that holds the secret with which this server enrols once
    #[arg(long, env = "DDM_JOIN_SECRET_FILE", value_name = "FILE", global = true)]
    pub join_secret_file: Option<PathBuf>,
    /// The same secret itself; prefer the file, others can see a process's arguments
    #[arg(long, env = "DDM_JOIN_SECRET", hide_env_values = true, value_name = "SECRET", hide = true, global = true)]
    pub join_secret: Option<SecretString>,
    /// The broker; without one, facts are fetched from the info-server as they happen
    #[arg(long, env = "DDM_AMQP_URL", hide_env_values = true, value_name = "URL", global = true)]
    pub amqp: Option<SecretString>,
    /// A file (mode 0600) that holds the broker's URL with its password
    #[arg(long, env = "DDM_AMQP_FILE", value_name = "FILE", global = true)]
    pub amqp_file: Option<PathBuf>,
}

/// How much the server may use.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Limits")]
pub struct Limits {
    /// Connections open at once; further ones wait
    #[arg(long, env = "DDM_MAX_CONNECTIONS", default_value_t = 4096, value_name = "N", global = true)]
    pub max_connections: usize,
    /// Tokens kept in memory; further ones are looked up on disk
    #[arg(long, env = "DDM_TOKEN_CACHE", default_value_t = 65_536, value_name = "N", global = true)]
    pub token_cache: u64,
    /// Tokens kept on disk; beyond it the ones that end first are asked for again when used
    #[arg(long, env = "DDM_TOKENS", default_value_t = 1_000_000, value_name = "N", global = true)]
    pub tokens: u32,
    /// Blobs kept open between requests
    #[arg(long, env = "DDM_OPEN_FILES", default_value_t = 512, value_name = "N", global = true)]
    pub open_files: usize,
    /// Bytes of content a second sent to all clients together, such as 100MiB [default: unlimited]
    #[arg(long, env = "DDM_MAX_RATE", value_name = "SIZE", global = true)]
    pub max_rate: Option<ByteSize>,
    /// Bytes of content a second sent to the holder of one token, over all its connections [default: unlimited]
    #[arg(long, env = "DDM_MAX_RATE_PER_CLIENT", value_name = "SIZE", global = true)]
    pub max_rate_per_client: Option<ByteSize>,
}

/// How replicas come here and stay whole.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Replication")]
pub struct Replication {
    /// Files fetched from other servers at a time
    #[arg(long, env = "DDM_REPLICATIONS", default_value_t = 2, value_name = "N", global = true)]
    pub replications: usize,
    /// How much of a zone's files it should hold beside the other servers; 0 takes no new ones
    #[arg(long, env = "DDM_WEIGHT", default_value_t = 1, value_name = "N", global = true)]
    pub weight: u32,
    /// How often everything held is read again and compared with its digests
    #[arg(long, env = "DDM_SCRUB_EVERY", default_value = "7days", value_name = "TIME", global = true)]
    pub scrub_every: humantime::Duration,
    /// Bytes a second read for that
    #[arg(long, env = "DDM_SCRUB_RATE", default_value = "32MiB", value_name = "SIZE", global = true)]
    pub scrub_rate: ByteSize,
}

/// How much the server fetches of URLs for others.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Origins of URLs")]
pub struct Fetching {
    /// URLs of which spans are fetched at a time; 0 fetches none
    #[arg(long, env = "DDM_FETCHES", default_value_t = 4, value_name = "N", global = true)]
    pub fetches: usize,
}

impl Config {
    /// Refuses settings that contradict each other, before anything is touched.
    ///
    /// # Errors
    /// With the settings' names and what to do.
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
            ("--scrub-rate", self.replication.scrub_rate.as_u64() == 0),
            ("--max-rate", self.limits.max_rate.is_some_and(|rate| rate.as_u64() == 0)),
            ("--max-rate-per-client", self.limits.max_rate_per_client.is_some_and(|rate| rate.as_u64() == 0)),
        ] {
            anyhow::ensure!(!zero, "{name} must be at least 1");
        }
        self.peers.check()
    }

    /// The folder of files still being received.
    pub(crate) fn partial_folder(&self) -> PathBuf {
        self.storage.partial_dir.clone().unwrap_or_else(|| self.storage.data.join("partial"))
    }
}

impl Upstream {
    /// The join secret, if there is one. An info-server that is started for the first time together with this one makes its
    /// file in a moment.
    pub(crate) async fn join_secret(&self) -> anyhow::Result<Option<SecretString>> {
        if let Some(path) = self.join_secret_file.as_ref().filter(|_| self.join_secret.is_none()) {
            until_there(path).await;
        }
        secret(self.join_secret.as_ref(), self.join_secret_file.as_ref(), "--join-secret-file")
    }

    /// The broker's URL, if there is a broker.
    pub(crate) fn broker(&self) -> anyhow::Result<Option<SecretString>> {
        secret(self.amqp.as_ref(), self.amqp_file.as_ref(), "--amqp-file")
    }
}

/// Waits for a file, for a while.
async fn until_there(path: &Path) {
    let until = Instant::now() + SECRET_WAIT;
    if !path.exists() {
        tracing::info!(path = %path.display(), "waiting for the join secret, which the info-server makes when it first starts");
    }
    while !path.exists() && Instant::now() < until {
        tokio::time::sleep(SECRET_LOOK).await;
    }
}

fn secret(given: Option<&SecretString>, file: Option<&PathBuf>, setting: &str) -> anyhow::Result<Option<SecretString>> {
    if let Some(given) = given {
        return Ok(Some(given.expose_secret().trim().into()));
    }
    let Some(path) = file else { return Ok(None) };
    let text = private_file::read(path)
        .with_context(|| format!("{setting} {}", path.display()))?
        .with_context(|| format!("{setting} {} does not exist", path.display()))?;
    anyhow::ensure!(!text.trim().is_empty(), "{setting} {} is empty", path.display());
    Ok(Some(text.trim().into()))
}

/// Routes are appended to the address, so it must be one that can carry them.
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
        ] {
            let error = parse(args).check().unwrap_err().to_string();
            assert!(error.contains(why), "{args:?}: {error}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_join_secret_that_is_being_made_is_waited_for_and_one_that_does_not_come_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("join-secret");
        let config = parse(&["--join-secret-file", path.to_str().unwrap()]);
        let refused = config.upstream.join_secret().await.unwrap_err().to_string();
        assert!(refused.contains("join-secret does not exist"), "{refused}");
        let made = async {
            tokio::time::sleep(SECRET_LOOK * 3).await;
            private_file::write(&path, b"hunter2").unwrap();
        };
        let (secret, ()) = tokio::join!(config.upstream.join_secret(), made);
        assert_eq!(secret.unwrap().unwrap().expose_secret(), "hunter2");
    }

    #[test]
    fn secrets_are_not_shown_by_formatters() {
        let config = parse(&["--join-secret", "hunter2", "--amqp", "amqp://u:hunter2@x"]);
        assert!(!format!("{config:?}").contains("hunter2"));
    }
}
