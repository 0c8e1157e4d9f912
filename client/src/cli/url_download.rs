//! Arguments of the commands for URLs, jobs and links.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand};
use wire::{Digest, OriginUrl, Zone, job::MAX_CONNECTIONS};

use super::origin_options::OriginOptions;
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
pub struct Fetch {
    /// URLs to download (http:// or https://)
    #[arg(required = true, value_name = "URL")]
    pub urls: Vec<OriginUrl>,
    /// Options of every download.
    #[command(flatten)]
    pub options: DownloadOptions,
    /// Expected SHA-256 of the file (single URL only)
    #[arg(long, value_name = "HEX")]
    pub sha256: Option<Digest>,
    /// Options of the job.
    #[command(flatten)]
    pub job: JobOptions,
    /// Download from the origin directly, without file servers
    #[arg(long, env = "DDM_DIRECT", conflicts_with_all = ["keep", "at", "after"])]
    pub direct: bool,
    /// Options of direct downloads.
    #[command(flatten)]
    pub origin: OriginOptions,
}

/// Options of a job.
#[derive(Debug, Clone, Default, Args)]
pub struct JobOptions {
    /// Connections of each file server to the origin [default: 1]
    #[arg(long, visible_alias = "connections", env = "DDM_WORKER_CONNECTIONS", value_parser = clap::value_parser!(u8).range(1..=i64::from(MAX_CONNECTIONS)), value_name = "COUNT")]
    pub origin_connections: Option<u8>,
    /// Start at a time: 22:30 or 2030-01-31T22:30 (local time), or 2030-01-31T22:30:00Z
    #[arg(long, value_name = "TIME", conflicts_with = "after")]
    pub at: Option<StartTime>,
    /// Start after a delay, e.g. 90m or 2h
    #[arg(id = "after", long = "in", value_parser = lifecycle::settings::duration, value_name = "TIME")]
    pub after: Option<Duration>,
    /// Keep the file on the servers for later requests; the job continues when this command ends
    #[arg(long)]
    pub keep: bool,
    /// Use only file servers in these zones, e.g. eu,us
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
}
