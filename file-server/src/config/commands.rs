//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use lifecycle::telemetry::Telemetry;
use secrecy::SecretString;

use super::Config;

/// Stores and serves the chunks of files in one zone
#[derive(Debug, Clone, Parser)]
#[command(name = "ddm-file-server", version, about)]
pub struct Cli {
    /// Format of log lines.
    #[command(flatten)]
    pub telemetry: Telemetry,
    /// Settings of the server.
    #[command(flatten)]
    pub config: Config,
    /// The command; serve when absent.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// The program's commands.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Serve until SIGTERM or SIGINT (the default)
    Serve,
    /// Publish files through this server
    Import(Import),
    /// List, remove or adopt orphaned files: stored here and not in the catalogue, as after the restore of an older backup. They are
    /// kept and not served until you decide
    #[command(subcommand)]
    Unknown(OrphanCommand),
    /// Ask the server on this machine whether it is ready; exit status 1 if not
    Healthcheck,
    /// Print the completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// The files to publish, and the publisher.
#[derive(Debug, Clone, Args)]
pub struct Import {
    /// Regular files to publish
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// The name to publish under; for one file only [default: the file's own]
    #[arg(long)]
    pub name: Option<wire::FileName>,
    /// Number of servers that should store the file [default: the info-server's setting]
    #[arg(long, env = "DDM_REPLICAS")]
    pub replicas: Option<u32>,
    /// Number of servers that must store it before it counts as published [default: the info-server's setting]
    #[arg(long, env = "DDM_QUORUM")]
    pub quorum: Option<u32>,
    /// The publisher.
    #[command(flatten)]
    pub login: Login,
}

/// Decision about orphaned files; the server may run meanwhile.
#[derive(Debug, Clone, Subcommand)]
pub enum OrphanCommand {
    /// List them: id, size, and how much of it is stored
    List {
        /// Print one JSON object a line instead of text
        #[arg(long)]
        json: bool,
    },
    /// Remove their bytes for good
    Remove {
        /// Ids of the files
        #[arg(required_unless_present = "all", value_name = "ID")]
        files: Vec<wire::FileId>,
        /// Remove all orphaned files
        #[arg(long, conflicts_with = "files")]
        all: bool,
    },
    /// Put a whole file back into the catalogue, under its id; every byte is read and compared with its digest first
    Adopt(Adopt),
}

/// The orphaned file to adopt, and its new name.
#[derive(Debug, Clone, Args)]
pub struct Adopt {
    /// The file's id
    #[arg(value_name = "ID")]
    pub file: wire::FileId,
    /// The file's new name; file servers do not store the old one
    #[arg(long)]
    pub name: wire::FileName,
    /// Number of servers that should store the file [default: the info-server's setting]
    #[arg(long, env = "DDM_REPLICAS")]
    pub replicas: Option<u32>,
    /// The publisher.
    #[command(flatten)]
    pub login: Login,
}

/// The publisher's login.
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
