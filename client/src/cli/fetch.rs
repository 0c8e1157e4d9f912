//! What is said on the command line about files of the web and about jobs.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand};
use wire::{Digest, JobId, OriginUrl, Zone, job::MAX_CONNECTIONS};

use crate::{link::Link, when::When};

/// Where a download goes, and how it is shown.
#[derive(Debug, Clone, Args)]
pub struct Target {
    /// Folder or file name to write to [default: the file's own name in the current folder]
    #[arg(short, long, env = "DDM_OUTPUT", value_name = "PATH")]
    pub output: Option<PathBuf>,
    /// Folder of the file while it is incomplete; must be on the same file system
    #[arg(long, env = "DDM_PARTIAL_DIR", value_name = "FOLDER")]
    pub partial_dir: Option<PathBuf>,
    /// How long to wait when no server is left
    #[arg(long, env = "DDM_WAIT", default_value = "60s", value_parser = lifecycle::settings::duration, value_name = "TIME")]
    pub wait: Duration,
    /// Replace an existing file of that name
    #[arg(short = 'f', long)]
    pub replace: bool,
    /// Show nothing but the outcome
    #[arg(short, long)]
    pub quiet: bool,
}

/// What to fetch from the web, and how.
#[derive(Debug, Clone, Args)]
pub struct Fetch {
    /// The file's address: http:// or https://
    pub url: OriginUrl,
    /// Where it goes.
    #[command(flatten)]
    pub target: Target,
    /// What its SHA-256 must be
    #[arg(long, value_name = "HEX")]
    pub sha256: Option<Digest>,
    /// How the job is done.
    #[command(flatten)]
    pub wish: Wish,
    /// Fetch it from here alone, without the help of file servers
    #[arg(long, env = "DDM_DIRECT", conflicts_with_all = ["keep", "at", "after"])]
    pub direct: bool,
}

/// How a job is to be done.
#[derive(Debug, Clone, Default, Args)]
pub struct Wish {
    /// Connections that each helping file server uses at the origin [default: 1]
    #[arg(long, visible_alias = "connections", env = "DDM_WORKER_CONNECTIONS", value_parser = clap::value_parser!(u8).range(1..=i64::from(MAX_CONNECTIONS)), value_name = "COUNT")]
    pub origin_connections: Option<u8>,
    /// Begin then: 22:30, 2030-01-31T22:30 (both in your time zone), or 2030-01-31T22:30:00Z
    #[arg(long, value_name = "TIME", conflicts_with = "after")]
    pub at: Option<When>,
    /// Begin after this time, such as 90m or 2h
    #[arg(id = "after", long = "in", value_parser = lifecycle::settings::duration, value_name = "TIME")]
    pub after: Option<Duration>,
    /// Keep the result on file servers, for you and whoever else asks for it; goes on when this command ends
    #[arg(long)]
    pub keep: bool,
    /// Only servers of these zones help, such as eu,us
    #[arg(long, visible_alias = "zones", env = "DDM_WORKER_ZONES", value_delimiter = ',', value_name = "ZONE")]
    pub worker_zones: Option<Vec<Zone>>,
}

/// Which jobs.
#[derive(Debug, Clone, Args)]
pub struct Jobs {
    /// What to do; without it they are listed
    #[command(subcommand)]
    pub command: Option<JobsCommand>,
}

/// What can be done with jobs.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum JobsCommand {
    /// List the jobs that you asked for
    List,
    /// Show one: how far it is, and who works on it
    Show {
        /// Its id
        job: JobId,
    },
    /// Give one up: it ends unless others want it too
    Cancel {
        /// Its id
        job: JobId,
    },
}

/// What to open.
#[derive(Debug, Clone, Args)]
pub struct Open {
    /// The link: ddm://file/ID, ddm://url/ADDRESS, ddm://fetch?url=ADDRESS or ddm://job/ID
    pub link: Link,
    /// Where it goes.
    #[command(flatten)]
    pub target: Target,
}
