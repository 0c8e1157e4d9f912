//! Arguments of the commands for URLs, jobs and links.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand};
use wire::{Digest, OriginUrl, Zone, job::MAX_CONNECTIONS};

use super::origin_options::{OriginLimits, OriginOptions};
use crate::{entry_ref::EntryRef, link::Link, start_time::StartTime};

/// Options of every download.
#[derive(Debug, Clone, Args)]
pub struct DownloadOptions {
    /// Folder or file name to write to; - is standard output [default: the file's own name in the current folder]
    ///
    /// Only a single published file can be written to standard output, not a URL.
    #[arg(short, long, env = "DDM_OUTPUT", value_name = "PATH")]
    pub output: Option<PathBuf>,
    /// Folder for the incomplete file, on the same file system as the destination
    #[arg(long, env = "DDM_PARTIAL_DIR", value_name = "FOLDER")]
    pub partial_dir: Option<PathBuf>,
    /// Time without progress (less than 1 KiB/s) after which to give up
    #[arg(long, env = "DDM_WAIT", default_value = "60s", value_parser = lifecycle::settings::duration, value_name = "TIME")]
    pub wait: Duration,
    /// Replace an existing file
    #[arg(short = 'f', long)]
    pub replace: bool,
    /// Print only the result
    #[arg(short, long)]
    pub quiet: bool,
}

/// Arguments of `fetch`.
#[derive(Debug, Clone, Args)]
// Another command has an option of this name for file servers.
#[command(mut_arg("origin_connections", |arg| arg.visible_alias("connections")))]
pub struct Fetch {
    /// URLs to download (http:// or https://)
    #[arg(required = true, value_name = "URL")]
    pub urls: Vec<OriginUrl>,
    /// Options of every download.
    #[command(flatten)]
    pub options: DownloadOptions,
    /// Options of URLs.
    #[command(flatten)]
    pub url: UrlOptions,
}

/// Options of URLs that the user chose.
#[derive(Debug, Clone, Default, Args)]
pub struct UrlOptions {
    /// Expected SHA-256 of the file (single URL only)
    #[arg(long, value_name = "HEX")]
    pub sha256: Option<Digest>,
    /// Options of the job.
    #[command(flatten)]
    pub job: JobOptions,
    /// Settings of all URLs.
    #[command(flatten)]
    pub settings: UrlSettings,
    /// Options of direct downloads.
    #[command(flatten)]
    pub origin: OriginOptions,
}

impl UrlOptions {
    /// Returns true if an option was given that makes sense for a URL alone. Settings may stand in the environment.
    pub(crate) fn need_url(&self) -> bool {
        let JobOptions { at, after, keep } = &self.job;
        self.sha256.is_some() || at.is_some() || after.is_some() || *keep || !self.origin.header.is_empty()
    }

    /// Returns the options of a URL that the user did not choose: it gets none of the user's log-ins.
    pub(crate) fn without_credentials(settings: UrlSettings, limits: OriginLimits) -> Self {
        Self { settings, origin: OriginOptions::without_credentials(limits), ..Self::default() }
    }
}

/// Options of a job.
#[derive(Debug, Clone, Default, Args)]
pub struct JobOptions {
    /// Start at a time: 22:30 or 2030-01-31T22:30 (local time), or 2030-01-31T22:30:00Z
    #[arg(long, value_name = "TIME", conflicts_with_all = ["after", "direct"])]
    pub at: Option<StartTime>,
    /// Start after a delay, e.g. 90m or 2h
    #[arg(id = "after", long = "in", conflicts_with = "direct", value_parser = lifecycle::settings::duration, value_name = "TIME")]
    pub after: Option<Duration>,
    /// Keep the file on the servers for later requests; the job continues when this command ends
    #[arg(long, conflicts_with = "direct")]
    pub keep: bool,
}

/// Settings of downloads from origins, for URLs of the user and of a job alike.
#[derive(Debug, Clone, Default, Args)]
pub struct UrlSettings {
    /// Download URLs from their origins directly, without file servers
    #[arg(long, env = "DDM_DIRECT")]
    pub direct: bool,
    /// Connections of each file server to the origin of a URL [default: 1]
    #[arg(long, env = "DDM_WORKER_CONNECTIONS", value_parser = clap::value_parser!(u8).range(1..=i64::from(MAX_CONNECTIONS)), value_name = "COUNT")]
    pub origin_connections: Option<u8>,
    /// Use only file servers in these zones for URLs, e.g. eu,us
    #[arg(long, visible_alias = "zones", env = "DDM_WORKER_ZONES", value_delimiter = ',', value_name = "ZONE")]
    pub worker_zones: Option<Vec<Zone>>,
}

/// Arguments of `jobs`.
#[derive(Debug, Clone, Args)]
pub struct Jobs {
    /// Action [default: list]
    #[command(subcommand)]
    pub command: Option<JobsCommand>,
}

/// Actions on jobs.
#[derive(Debug, Clone, Subcommand)]
pub enum JobsCommand {
    /// List the jobs that you requested
    List,
    /// Show a job: progress and workers
    Show {
        /// Name of the job's file, the job's id, or the beginning of its id
        job: EntryRef,
    },
    /// Cancel your request; the job continues only if other accounts requested it too
    Cancel {
        /// Name of the job's file, the job's id, or the beginning of its id
        job: EntryRef,
    },
}

/// Arguments of `open`.
#[derive(Debug, Clone, Args)]
pub struct Open {
    /// Link: ddm://file/ID, ddm://url/ADDRESS, ddm://fetch?url=ADDRESS or ddm://job/ID
    pub link: Link,
    /// Options of every download.
    #[command(flatten)]
    pub options: DownloadOptions,
    /// Parallel requests per server
    #[arg(long, env = "DDM_CONNECTIONS", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64), value_name = "COUNT")]
    pub connections: u16,
    /// Settings of URLs.
    #[command(flatten)]
    pub settings: UrlSettings,
    /// Limits of direct downloads.
    #[command(flatten)]
    pub limits: OriginLimits,
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, ffi::OsString};

    use clap::{CommandFactory as _, Parser as _};

    use super::*;
    use crate::cli::{Command, CommandLine, with_default_command};

    /// Each option of a URL, as it is written.
    const FETCH_OPTIONS: [(&str, &[&str]); 13] = [
        ("sha256", &["--sha256", "0000000000000000000000000000000000000000000000000000000000000000"]),
        ("at", &["--at", "2030-01-31T22:30:00Z"]),
        ("after", &["--in", "2h"]),
        ("keep", &["--keep"]),
        ("direct", &["--direct"]),
        ("origin_connections", &["--origin-connections", "3"]),
        ("worker_zones", &["--worker-zones", "eu,us"]),
        ("header", &["-H", "X-Key: y"]),
        ("netrc_file", &["--netrc-file", "n"]),
        ("no_netrc", &["--no-netrc"]),
        ("origin_cert", &["--origin-cert", "c.pem"]),
        ("origin_allow", &["--origin-allow", "10.0.0.0/8"]),
        ("origin_timeout", &["--origin-timeout", "7s"]),
    ];
    const SAMPLE_URL: &str = "https://example.org/x";

    fn parse(command: Option<&str>, args: &[&str]) -> Command {
        let line = ["ddm-client"].into_iter().chain(command).chain(args.iter().copied()).map(OsString::from).collect();
        CommandLine::try_parse_from(with_default_command(line).unwrap()).unwrap().command
    }

    fn url_options(command: Option<&str>, args: &[&str]) -> UrlOptions {
        match parse(command, args) {
            Command::Fetch(fetch) => fetch.url,
            Command::Get(get) => get.url,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_option_of_a_url_means_the_same_however_the_url_is_downloaded() {
        let unset = format!("{:?}", url_options(Some("fetch"), &[SAMPLE_URL]));
        for (id, args) in FETCH_OPTIONS {
            let args = [args, &[SAMPLE_URL]].concat();
            let fetched = format!("{:?}", url_options(Some("fetch"), &args));
            assert_ne!(fetched, unset, "{id}");
            for command in [Some("get"), None] {
                assert_eq!(format!("{:?}", url_options(command, &args)), fetched, "{id} {command:?}");
            }
        }
    }

    #[test]
    fn no_command_that_downloads_urls_lacks_a_setting_of_another() {
        let command = CommandLine::command();
        let known = |name: &str, with_environment: bool| -> BTreeSet<String> {
            let arguments = command.find_subcommand(name).unwrap().get_arguments();
            let wanted =
                arguments.filter(|arg| arg.get_long().is_some() && (!with_environment || arg.get_env().is_some()));
            wanted.map(|arg| arg.get_id().to_string()).collect()
        };
        let (fetch, get) = (known("fetch", false), known("get", false));
        assert_eq!(fetch.difference(&get).collect::<Vec<_>>(), Vec::<&String>::new());
        let table: BTreeSet<String> = FETCH_OPTIONS.iter().map(|(id, _)| (*id).to_owned()).collect();
        let general = ["output", "partial_dir", "wait", "replace", "quiet"].map(str::to_owned);
        let general = BTreeSet::from(general);
        assert_eq!(fetch.difference(&general).cloned().collect::<BTreeSet<_>>(), table, "the table names every option");
        // A link is another person's choice: it gets no credentials, and takes no options that fit one file alone.
        let open = known("open", true);
        let kept_back = ["netrc_file", "origin_cert", "parallel"].map(str::to_owned);
        let settings: BTreeSet<String> = known("fetch", true).union(&known("get", true)).cloned().collect();
        assert_eq!(settings.difference(&open).cloned().collect::<BTreeSet<_>>(), BTreeSet::from(kept_back));
    }

    #[test]
    fn the_shorter_names_of_worker_options_stay() {
        let Command::Fetch(fetch) = parse(None, &["--connections", "4", "--zones", "eu", SAMPLE_URL]) else {
            panic!("fetch")
        };
        assert_eq!(fetch.url.settings.origin_connections, Some(4));
        assert_eq!(fetch.url.settings.worker_zones, Some(vec!["eu".parse().unwrap()]));
        let Command::Get(get) = parse(Some("get"), &["--connections", "5", SAMPLE_URL]) else { panic!("get") };
        assert_eq!((get.connections, get.url.settings.origin_connections), (5, None));
    }
}
