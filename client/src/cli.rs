//! The command line.

mod default_command;
mod files;
mod origin_options;
mod url_download;

use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;
use lifecycle::telemetry::Telemetry;
use origin::parse_proxy_url;
use secrecy::SecretString;
use url::Url;
use wire::Zone;

pub(crate) use self::default_command::{similar_command, without_command};
pub use self::{
    default_command::with_default_command,
    files::{
        Drain, Get, List, Metalink, Policy, Preheat, Publish, Rename, Sessions, SessionsCommand, Users, UsersCommand,
        Verify, Watch,
    },
    origin_options::{OriginLimits, OriginOptions},
    url_download::{DownloadOptions, Fetch, JobOptions, Jobs, JobsCommand, Open, UrlOptions, UrlSettings},
};
use crate::entry_ref::EntryRef;

/// Heading of the options that every command takes.
const GLOBAL_OPTIONS: &str = lifecycle::settings::GLOBAL_OPTIONS;

/// Publish and download large files; every chunk is verified.
#[derive(Debug, Parser)]
#[command(
    name = "ddm-client",
    version,
    about,
    // The progress display shows the engine's warnings; the log is for those who debug.
    mut_arg("log", |arg| arg.default_value("error").help_heading(GLOBAL_OPTIONS).hide_short_help(true)),
    mut_arg("log_format", |arg| arg.help_heading(GLOBAL_OPTIONS).hide_short_help(true)),
    after_help = "Use -h or --help after a command for its own options, --help here for the global ones.",
    override_usage = "ddm-client [OPTIONS] <FILE>...\n       ddm-client [OPTIONS] <URL>...\n       ddm-client [OPTIONS] <COMMAND>"
)]
pub struct CommandLine {
    /// Options of every command.
    #[command(flatten)]
    pub common: Common,
    /// Options of the log.
    #[command(flatten)]
    pub telemetry: Telemetry,
    /// Command to run.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = GLOBAL_OPTIONS)]
pub struct Common {
    /// Address of the info-server
    #[arg(
        long,
        env = "DDM_INFO_URL",
        default_value = "http://127.0.0.1:8000",
        value_parser = lifecycle::settings::info_server_url,
        value_name = "URL",
        global = true,
        hide_short_help = true
    )]
    pub info: Url,
    /// Your zone; its file servers are preferred
    #[arg(long, env = "DDM_ZONE", value_name = "ZONE", global = true, hide_short_help = true)]
    pub zone: Option<Zone>,
    /// Print one JSON object per line instead of text
    #[arg(long, env = "DDM_JSON", global = true, hide_short_help = true)]
    pub json: bool,
    /// File that stores your logins [default: ddm/logins.json in your configuration folder]
    #[arg(long, env = "DDM_SESSION_FILE", value_name = "FILE", global = true, hide_short_help = true)]
    pub session_file: Option<PathBuf>,
    /// Proxy for all requests (http://, https:// or socks5://) [default: none]
    #[arg(long, env = "DDM_PROXY", value_parser = parse_proxy_url, value_name = "URL", global = true, hide_short_help = true)]
    pub proxy: Option<Url>,
    /// Proxy (http, https or socks5) for direct downloads from origins [default: that of --proxy]
    #[arg(
        long,
        env = "DDM_ORIGIN_PROXY",
        hide_env_values = true,
        value_name = "URL",
        global = true,
        hide_short_help = true
    )]
    pub origin_proxy: Option<SecretString>,
    /// Maximum bytes per second of all downloads and uploads together, e.g. 500k or 2.5M [default: no limit]
    #[arg(
        long,
        env = "DDM_LIMIT_RATE",
        value_parser = lifecycle::settings::size,
        value_name = "RATE",
        global = true,
        hide_short_help = true
    )]
    pub limit_rate: Option<u64>,
    /// PEM file of further certificates to trust for the info-server and file servers: of authorities, or a server's own
    #[arg(long, env = "DDM_CACERT", value_name = "FILE", global = true, hide_short_help = true)]
    pub cacert: Option<PathBuf>,
    /// PEM file of further certificates to trust for origins: of authorities, or an origin's own
    #[arg(long, env = "DDM_ORIGIN_CA", value_name = "FILE", global = true, hide_short_help = true)]
    pub origin_ca: Option<PathBuf>,
}

/// Commands of the client.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Download files (same as `ddm-client <FILE>`)
    Get(Get),
    /// Download URLs with the help of file servers (same as `ddm-client <URL>`)
    Fetch(Box<Fetch>),
    /// List, show or cancel URL downloads
    Jobs(Jobs),
    /// Open a ddm:// link to a file, URL or job
    Open(Open),
    /// Start a prompt with completion and history; downloads run in the background
    Shell,
    /// List files
    #[command(visible_alias = "ls")]
    List(List),
    /// Show a file: size, digests, servers
    Info {
        /// Name of the file, its id, or the beginning of its id
        file: EntryRef,
    },
    /// Write the Metalink of a file, for other download programs
    Metalink(Metalink),
    /// Publish files
    Publish(Publish),
    /// Delete a published file from all servers
    Remove {
        /// Name of the file, its id, or the beginning of its id
        file: EntryRef,
    },
    /// Show a file's replicas and how much of each is verified
    Replicas {
        /// Name of the file, its id, or the beginning of its id
        file: EntryRef,
    },
    /// Compare local files with published files, chunk by chunk
    Verify(Verify),
    /// Show the progress of a file or job while it changes
    Watch(Watch),
    /// Give a published file another name
    Rename(Rename),
    /// Show or change the replicas and zones of a file
    Policy(Policy),
    /// Add replicas of a file in the zone given with --zone
    Preheat(Preheat),
    /// Move all files to other servers before a server is removed (admins only)
    Drain(Drain),
    /// List the live file servers
    Servers,
    /// Log in and store the session in a file that only you can read
    Login {
        /// E-mail of the account [default: prompt]
        email: Option<String>,
    },
    /// Log out and delete the stored session
    Logout,
    /// List, add and change accounts (admins only)
    Users(Users),
    /// List or end your sessions
    Sessions(Sessions),
    /// Print a completion script
    Completions {
        /// Shell to complete for
        shell: Shell,
    },
    /// Write the manual pages, one per command
    Man {
        /// Folder to write them to
        folder: PathBuf,
    },
}

impl Command {
    /// Returns true if the command ends soon and resumably after a cancellation. Every other one is dropped.
    pub(crate) const fn handles_cancellation(&self) -> bool {
        matches!(
            self,
            Self::Get(_)
                | Self::Fetch(_)
                | Self::Open(_)
                | Self::Shell
                | Self::Publish(_)
                | Self::Preheat(_)
                | Self::Drain(_)
                | Self::Verify(_)
                | Self::Watch(_)
                | Self::Policy(_)
        )
    }
}

/// Prints the completion script of a shell.
pub fn print_completions(shell: Shell) {
    clap_complete::generate(shell, &mut CommandLine::command(), "ddm-client", &mut std::io::stdout());
}

/// Writes the manual pages. They describe also the options that the short help leaves out.
///
/// # Errors
/// When the folder cannot be written.
pub fn write_man_pages(folder: &Path) -> std::io::Result<()> {
    clap_mangen::generate_to(with_all_help(lifecycle::settings::described::<CommandLine>()), folder)
}

fn with_all_help(command: clap::Command) -> clap::Command {
    command.mut_args(|arg| arg.hide_short_help(false)).mut_subcommands(with_all_help)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manual_pages_describe_what_the_short_help_leaves_out() {
        let folder = tempfile::tempdir().unwrap();
        write_man_pages(folder.path()).unwrap();
        for (page, text) in [
            ("ddm-client.1", "Address of the info\\-server"),
            ("ddm-client.1", "TOML file of settings"),
            ("ddm-client-fetch.1", "Netrc file with the log\\-ins of hosts"),
            ("ddm-client-get.1", "Private networks to which a public server may redirect"),
        ] {
            let read = std::fs::read_to_string(folder.path().join(page)).unwrap();
            assert!(read.contains(text), "{page}: {text}");
        }
    }

    #[test]
    fn the_help_of_a_command_lists_its_own_options_and_names_the_place_of_the_global_ones() {
        let help = |args: &[&str]| {
            let args = ["ddm-client"].iter().chain(args).map(Into::into);
            lifecycle::settings::parse_from::<CommandLine>(args, None, None).unwrap_err().to_string()
        };
        let global = ["--info", "--session-file", "--log ", "--config"];
        for name in ["get", "publish", "list", "fetch", "verify", "users", "shell"] {
            let (short, long) = (help(&[name, "-h"]), help(&[name, "--help"]));
            assert!(short.lines().count() <= 34, "{name}: {short}");
            for shown in [&short, &long, &help(&["help", name])] {
                for option in global {
                    assert!(!shown.contains(option), "{name} {option}: {shown}");
                }
                assert!(shown.contains("Global options, which every command takes: ddm-client --help"), "{shown}");
            }
        }
        assert!(help(&["get", "--help"]).contains("--origin-connections"), "all of its own options");
        assert!(!help(&["get", "-h"]).contains("--origin-connections"));
        assert!(help(&["users", "add", "--help"]).contains("--role"));
        let long = help(&["--help"]);
        assert!(global.iter().all(|option| long.contains(option)), "{long}");
        assert_eq!(long.matches("\nGlobal options:").count(), 1, "{long}");
        assert!(!long.contains("\nLog:"), "{long}");
    }
}
