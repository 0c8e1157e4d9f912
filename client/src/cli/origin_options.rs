//! Options of direct downloads: credentials for the origin, and limits.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::Context as _;
use clap::Args;
use ipnet::IpNet;
use origin::{Credentials, Netrc, parse_network, parse_timeout};
use secrecy::{ExposeSecret as _, SecretString};

/// Longest file of header fields that is read, in bytes.
const MAX_HEADER_FILE_LEN: u64 = 64 << 10;

/// Options of direct downloads.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Direct downloads")]
pub struct OriginOptions {
    /// Header field for the origin, or @FILE with one per line; implies --direct
    #[arg(short = 'H', long, value_name = "FIELD", conflicts_with_all = ["keep", "at", "after"])]
    pub header: Vec<SecretString>,
    /// Netrc file with the log-ins of hosts [default: ~/.netrc, if it exists]
    #[arg(long, hide_short_help = true, env = "DDM_NETRC", value_name = "FILE")]
    pub netrc_file: Option<PathBuf>,
    /// Do not use a netrc file
    #[arg(long, hide_short_help = true, conflicts_with = "netrc_file")]
    pub no_netrc: bool,
    /// PEM file with a client certificate and its private key for the origin; implies --direct
    #[arg(long, hide_short_help = true, env = "DDM_ORIGIN_CERT", value_name = "FILE", conflicts_with_all = ["keep", "at", "after"])]
    pub origin_cert: Option<PathBuf>,
    /// Limits of the origin.
    #[command(flatten)]
    pub limits: OriginLimits,
}

/// Limits of direct downloads, for URLs of the user and of a job alike.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Direct downloads")]
pub struct OriginLimits {
    /// Private networks to which a public server may redirect, e.g. 10.1.0.0/16
    #[arg(long, hide_short_help = true, env = "DDM_ORIGIN_ALLOW", value_parser = parse_network, value_name = "NETWORK", value_delimiter = ',')]
    pub origin_allow: Vec<IpNet>,
    /// Longest wait for the head of the origin's response, and for each next byte of its body [default: 1m]
    #[arg(long, hide_short_help = true, env = "DDM_ORIGIN_TIMEOUT", value_parser = parse_timeout, value_name = "TIME")]
    pub origin_timeout: Option<Duration>,
}

impl OriginOptions {
    /// Returns the options of a download whose URL the user did not choose: it gets none of the user's log-ins.
    pub(crate) fn without_credentials(limits: OriginLimits) -> Self {
        Self { no_netrc: true, limits, ..Self::default() }
    }

    /// Returns the reason why file servers cannot fetch the file, if there are credentials that they do not get.
    pub(crate) fn direct_reason(&self) -> Option<&'static str> {
        if !self.header.is_empty() {
            return Some("--header was given, and file servers get no credentials");
        }
        self.origin_cert.is_some().then_some("--origin-cert was given, and file servers get no credentials")
    }

    /// Reads the credentials for the origin.
    ///
    /// # Errors
    /// When a file cannot be read, or an option is no credential.
    pub(crate) fn credentials(&self) -> anyhow::Result<Credentials> {
        let mut credentials = Credentials::default();
        for field in &self.header {
            let field = field.expose_secret();
            match field.strip_prefix('@') {
                None => credentials.add_header(field).context("--header")?,
                Some(path) => add_header_file(&mut credentials, path).with_context(|| format!("--header @{path}"))?,
            }
        }
        if let Some(path) = &self.origin_cert {
            let about = || format!("--origin-cert {}", path.display());
            credentials.set_identity(&fs::read(path).with_context(about)?).with_context(about)?;
        }
        if let Some(netrc) = self.netrc()? {
            credentials.set_netrc(netrc);
        }
        Ok(credentials)
    }

    fn netrc(&self) -> anyhow::Result<Option<Netrc>> {
        if self.no_netrc {
            return Ok(None);
        }
        if let Some(path) = &self.netrc_file {
            return Netrc::read(path).map(Some).with_context(|| format!("--netrc-file {}", path.display()));
        }
        let home = directories::BaseDirs::new().map(|folders| folders.home_dir().join(".netrc"));
        let Some(path) = home.filter(|path| path.is_file()) else { return Ok(None) };
        let about = || format!("{} cannot be read; --no-netrc leaves it aside", path.display());
        Netrc::read(&path).map(Some).with_context(about)
    }
}

fn add_header_file(credentials: &mut Credentials, path: &str) -> anyhow::Result<()> {
    anyhow::ensure!(fs::metadata(path)?.len() <= MAX_HEADER_FILE_LEN, "it is too long");
    let text = fs::read_to_string(path)?;
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        credentials.add_header(line)?;
    }
    Ok(())
}
