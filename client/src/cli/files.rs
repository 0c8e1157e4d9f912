//! Arguments of the commands for files, servers and sessions.

use std::{path::PathBuf, time::Duration};

use clap::{Arg, Args, Subcommand};
use wire::{ServerId, Zone, account::Role};

use super::{DownloadOptions, UrlOptions};
use crate::{entry_ref::EntryRef, target::Target};

/// Arguments of `metalink`.
#[derive(Debug, Clone, Args)]
pub struct Metalink {
    /// Name of the file, its id, or the beginning of its id
    pub file: EntryRef,
    /// Folder or file name to write to; - is standard output [default: standard output]
    #[arg(short, long, value_name = "PATH")]
    pub output: Option<PathBuf>,
    /// Replace an existing file
    #[arg(short = 'f', long, requires = "output")]
    pub replace: bool,
}

/// Arguments of `get`.
#[derive(Debug, Clone, Args)]
#[command(mut_args(without_short_help_of_urls))]
pub struct Get {
    /// Files to download, by name, id or beginning of an id; also URLs and ddm:// links
    #[arg(required_unless_present = "input", value_name = "FILE")]
    pub targets: Vec<Target>,
    /// Read more names, ids, URLs and links from FILE, one per line; - is standard input
    #[arg(short, long, value_name = "FILE")]
    pub input: Option<PathBuf>,
    /// Maximum number of downloads at the same time
    #[arg(long, env = "DDM_PARALLEL", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=16), value_name = "COUNT")]
    pub parallel: u8,
    /// Options of every download.
    #[command(flatten)]
    pub options: DownloadOptions,
    /// Requests in flight at each server
    #[arg(long, env = "DDM_CONNECTIONS", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64), value_name = "COUNT")]
    pub connections: u16,
    /// Options of URLs.
    #[command(flatten)]
    pub url: UrlOptions,
}

/// Hides the options of URLs from the short help of a command that is mostly used for published files.
fn without_short_help_of_urls(arg: Arg) -> Arg {
    let is_of_urls = ["sha256", "at", "after", "keep", "direct", "origin_connections", "worker_zones", "header"]
        .contains(&arg.get_id().as_str());
    if is_of_urls { arg.hide_short_help(true) } else { arg }
}

/// Arguments of `sessions`.
#[derive(Debug, Clone, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Sessions {
    /// End all sessions except this one
    #[arg(long)]
    pub others: bool,
    /// Action [default: list the sessions]
    #[command(subcommand)]
    pub command: Option<SessionsCommand>,
}

/// Actions on one session.
#[derive(Debug, Clone, Subcommand)]
pub enum SessionsCommand {
    /// End one session
    Close {
        /// Id of the session, or the beginning of its id
        session: EntryRef,
    },
}

/// Arguments of `list`.
#[derive(Debug, Clone, Args)]
pub struct List {
    /// Show only files whose name contains this text
    pub part: Option<String>,
    /// Maximum number of files, newest first
    #[arg(long, default_value_t = 1000, value_name = "COUNT")]
    pub limit: u32,
}

/// Arguments of `publish`.
#[derive(Debug, Clone, Args)]
pub struct Publish {
    /// Files to publish
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Servers that must store a file before it is published [default: set by the info-server]
    #[arg(long, value_name = "COUNT")]
    pub quorum: Option<u32>,
    /// Replicas to keep: per zone with --zones, else in total [default: set by the info-server]
    #[arg(long, value_name = "COUNT")]
    pub replicas: Option<u32>,
    /// Zones to keep replicas in, and no others, e.g. eu,us [default: set by the info-server]
    #[arg(long, value_delimiter = ',', value_name = "ZONE")]
    pub zones: Option<Vec<Zone>>,
    /// Wait until every replica is complete and verified; exit with status 1 if the time runs out [default without a
    /// time: 10m]
    #[arg(long, value_parser = lifecycle::settings::duration, num_args = 0..=1, require_equals = true, default_missing_value = "10m", value_name = "TIME")]
    pub wait: Option<Duration>,
    /// Name to publish under (single file only) [default: the file's name]
    #[arg(long, value_name = "NAME")]
    pub name: Option<wire::FileName>,
    /// Publish even if the same content is already published, as another file
    #[arg(long)]
    pub again: bool,
    /// Media type, e.g. application/gzip
    #[arg(long, value_name = "TYPE")]
    pub media_type: Option<String>,
}

/// Arguments of `preheat`. The zone is the one of `--zone`.
#[derive(Debug, Clone, Args)]
pub struct Preheat {
    /// Name of the file, its id, or the beginning of its id
    pub file: EntryRef,
    /// Replicas to keep in the zone [default: set by the info-server]
    #[arg(long, value_name = "COUNT")]
    pub replicas: Option<u32>,
    /// Wait until the zone's replicas are complete and verified; exit with status 1 if the time runs out [default
    /// without a time: 10m]
    #[arg(long, value_parser = lifecycle::settings::duration, num_args = 0..=1, require_equals = true, default_missing_value = "10m", value_name = "TIME")]
    pub wait: Option<Duration>,
    /// Undo an earlier preheat of the zone; replicas of the file's policy stay
    #[arg(long, conflicts_with_all = ["replicas", "wait"])]
    pub undo: bool,
}

/// Arguments of `policy`.
#[derive(Debug, Clone, Args)]
pub struct Policy {
    /// Name of the file, its id, or the beginning of its id
    pub file: EntryRef,
    /// Replicas to keep: in each zone of the policy, or in total if it names none
    #[arg(long, value_name = "COUNT")]
    pub replicas: Option<u32>,
    /// Zones to keep replicas in, and no others, e.g. eu,us; also undoes every preheat
    #[arg(long, value_delimiter = ',', value_name = "ZONE")]
    pub zones: Option<Vec<Zone>>,
    /// Keep replicas in any zone; also undoes every preheat
    #[arg(long, conflicts_with = "zones")]
    pub anywhere: bool,
    /// Show the replicas that would be dropped and added, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask for confirmation
    #[arg(short, long)]
    pub yes: bool,
}

/// Arguments of `rename`.
#[derive(Debug, Clone, Args)]
pub struct Rename {
    /// Name of the file, its id, or the beginning of its id
    pub file: EntryRef,
    /// New name
    pub name: wire::FileName,
}

/// Arguments of `verify`.
#[derive(Debug, Clone, Args)]
pub struct Verify {
    /// Local files; if the last one does not exist here, it names the published file to compare with
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<String>,
    /// Published file to compare with: its name, id or beginning of its id [default: the one of the same name]
    #[arg(long, value_name = "ID")]
    pub id: Option<EntryRef>,
    /// Download the chunks that differ, and write them into the file; without an id only into a copy that has the right size and some chunks
    #[arg(long)]
    pub repair: bool,
    /// Print only files that differ
    #[arg(short, long)]
    pub quiet: bool,
}

/// Arguments of `watch`.
#[derive(Debug, Clone, Args)]
pub struct Watch {
    /// Name of the file or job, its id, or the beginning of its id
    pub entry: EntryRef,
}

/// Arguments of `users`.
#[derive(Debug, Clone, Args)]
pub struct Users {
    /// Action [default: list]
    #[command(subcommand)]
    pub command: Option<UsersCommand>,
}

/// Actions on accounts.
#[derive(Debug, Clone, Subcommand)]
pub enum UsersCommand {
    /// List the accounts
    List,
    /// Add an account; asks for its password, or reads it from standard input
    Add {
        /// E-mail of the account
        email: String,
        /// Role of the account
        #[arg(long, value_parser = lifecycle::settings::role(), default_value_t = Role::Reader)]
        role: Role,
    },
    /// Disable an account and end its sessions
    Disable {
        /// E-mail of the account
        email: String,
        /// Enable the account again
        #[arg(long)]
        undo: bool,
    },
    /// Change the password of an account and end its sessions
    Passwd {
        /// E-mail of the account
        email: String,
    },
    /// Change the role of an account
    Role {
        /// E-mail of the account
        email: String,
        /// Role of the account
        #[arg(value_parser = lifecycle::settings::role())]
        role: Role,
    },
}

/// Arguments of `drain`.
#[derive(Debug, Clone, Args)]
pub struct Drain {
    /// Id of the file server, or the beginning of its id
    pub server: ServerId,
    /// Wait until the server can be stopped; exit with status 1 if the time runs out [default without a time: 1h]
    #[arg(long, value_parser = lifecycle::settings::duration, num_args = 0..=1, require_equals = true, default_missing_value = "1h", value_name = "TIME", conflicts_with = "undo")]
    pub wait: Option<Duration>,
    /// Stop draining: the server accepts files again
    #[arg(long)]
    pub undo: bool,
}
