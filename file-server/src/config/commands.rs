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
    /// Publish files through the server of --data. If it is stopped, it runs for as long as the import takes, with the address, zone
    /// and info-server of its last start
    Import(Import),
    /// List, remove or adopt orphaned files: stored here but not in the catalogue, for example after the restore of an older backup.
    /// They are kept and not served until you remove or adopt them
    #[command(subcommand)]
    Unknown(OrphanCommand),
    /// Check that the server on this machine is ready; exit status 1 if not
    Healthcheck,
    /// Print a completion script
    Completions {
        /// Shell to complete for
        shell: clap_complete::Shell,
    },
}

/// The files to publish, and the publisher.
#[derive(Debug, Clone, Args)]
pub struct Import {
    /// Regular files to publish
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Name to publish under (single file only) [default: the file's name]
    #[arg(long)]
    pub name: Option<wire::FileName>,
    /// Replicas to keep [default: set by the info-server]
    #[arg(long, env = "DDM_REPLICAS")]
    pub replicas: Option<u32>,
    /// Servers that must store a file before it is published [default: set by the info-server]
    #[arg(long, env = "DDM_QUORUM")]
    pub quorum: Option<u32>,
    /// The publisher.
    #[command(flatten)]
    pub login: Login,
}

/// Decision about orphaned files; the server may run meanwhile.
#[derive(Debug, Clone, Subcommand)]
pub enum OrphanCommand {
    /// List the orphaned files: id, size, and how much of each is stored
    List {
        /// Print one JSON object per line instead of text
        #[arg(long)]
        json: bool,
    },
    /// Delete the bytes of orphaned files for good
    Remove {
        /// Ids of the files
        #[arg(required_unless_present = "all", value_name = "ID")]
        files: Vec<wire::FileId>,
        /// Remove all orphaned files
        #[arg(long, conflicts_with = "files")]
        all: bool,
    },
    /// Add a complete file to the catalogue again, under its id; every chunk is first compared with its digest
    Adopt(Adopt),
}

/// The orphaned file to adopt, and its new name.
#[derive(Debug, Clone, Args)]
pub struct Adopt {
    /// Id of the file
    #[arg(value_name = "ID")]
    pub file: wire::FileId,
    /// New name of the file; file servers do not store the old one
    #[arg(long)]
    pub name: wire::FileName,
    /// Replicas to keep [default: set by the info-server]
    #[arg(long, env = "DDM_REPLICAS")]
    pub replicas: Option<u32>,
    /// The publisher.
    #[command(flatten)]
    pub login: Login,
}

/// The publisher's login.
#[derive(Debug, Clone, Args)]
pub struct Login {
    /// E-mail of the publisher's account [default: prompt]
    #[arg(long, env = "DDM_EMAIL")]
    pub email: Option<String>,
    /// Session token, instead of a login; prefer the variable or the file: other users can see a process's arguments
    #[arg(long, env = "DDM_SESSION_TOKEN", hide_env_values = true, value_name = "TOKEN", hide = true)]
    pub session_token: Option<SecretString>,
    /// File (mode 0600) with a session token, instead of a login; DDM_SESSION_TOKEN can hold the token itself
    #[arg(long, env = "DDM_SESSION_TOKEN_FILE", value_name = "FILE")]
    pub session_token_file: Option<PathBuf>,
}
