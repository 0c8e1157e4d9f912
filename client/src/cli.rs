//! The command line.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, Command as ClapCommand, CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;
use lifecycle::telemetry::Telemetry;
use url::Url;
use wire::{FileId, Zone};

/// DDM's client: downloads files from several servers at once and checks every chunk.
#[derive(Debug, Parser)]
#[command(
    name = "ddm-client",
    version,
    about,
    // Warnings of the engine are shown as events of the download; the log is for those who look for it.
    mut_arg("log", |arg| arg.default_value("error")),
    override_usage = "ddm-client [OPTIONS] <FILE-ID>\n       ddm-client [OPTIONS] <COMMAND>"
)]
pub struct CommandLine {
    /// Settings of every command.
    #[command(flatten)]
    pub common: Common,
    /// Settings of the log.
    #[command(flatten)]
    pub telemetry: Telemetry,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Settings of every command.
#[derive(Debug, Clone, Args)]
pub struct Common {
    /// The info-server
    #[arg(long, env = "DDM_INFO_URL", default_value = "http://127.0.0.1:8000", value_name = "URL", global = true)]
    pub info: Url,
    /// Where you are: servers of this zone come first
    #[arg(long, env = "DDM_ZONE", value_name = "ZONE", global = true)]
    pub zone: Option<Zone>,
    /// Print one JSON object a line instead of text
    #[arg(long, env = "DDM_JSON", global = true)]
    pub json: bool,
    /// File that keeps your logins [default: ddm/logins.json in your configuration folder]
    #[arg(long, env = "DDM_SESSION_FILE", value_name = "FILE", global = true)]
    pub session_file: Option<PathBuf>,
    /// Proxy for every request: http://, https:// or socks5://; none is used unless named here
    #[arg(long, env = "DDM_PROXY", value_name = "URL", global = true)]
    pub proxy: Option<Url>,
}

/// What the client can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Download a file (what `ddm-client <FILE-ID>` does)
    Get(Get),
    /// List files
    #[command(visible_alias = "ls")]
    List(List),
    /// Show one file: size, digests, where it stands
    Info {
        /// The file's id
        file: FileId,
    },
    /// Publish files on several servers
    Publish(Publish),
    /// Remove a published file everywhere
    Remove {
        /// The file's id
        file: FileId,
    },
    /// List the live file servers
    Servers,
    /// Log in and keep the login in a file that only you can read
    Login {
        /// The account's name; asked for when absent
        email: Option<String>,
    },
    /// End the login
    Logout,
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Write the manual's pages, one for each command
    Man {
        /// The folder to write them to
        folder: PathBuf,
    },
}

/// How to download.
#[derive(Debug, Clone, Args)]
pub struct Get {
    /// The file's id
    pub file: FileId,
    /// Folder or file name to write to [default: the file's own name in the current folder]
    #[arg(short, long, env = "DDM_OUTPUT", value_name = "PATH")]
    pub output: Option<PathBuf>,
    /// Folder of the file while it is incomplete; must be on the same file system
    #[arg(long, env = "DDM_PARTIAL_DIR", value_name = "FOLDER")]
    pub partial_dir: Option<PathBuf>,
    /// Requests in flight at each server
    #[arg(long, env = "DDM_CONNECTIONS", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64), value_name = "COUNT")]
    pub connections: u16,
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

/// What to list.
#[derive(Debug, Clone, Args)]
pub struct List {
    /// Only names that contain this
    pub part: Option<String>,
    /// At most so many, newest first
    #[arg(long, default_value_t = 1000, value_name = "COUNT")]
    pub limit: u32,
}

/// What to publish.
#[derive(Debug, Clone, Args)]
pub struct Publish {
    /// The files
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Servers that must hold a file before it counts as published [default: the info-server's]
    #[arg(long, value_name = "COUNT")]
    pub quorum: Option<u32>,
    /// Servers that should hold a file [default: the info-server's]
    #[arg(long, value_name = "COUNT")]
    pub replicas: Option<u32>,
    /// Publish under another name; only with a single file
    #[arg(long, value_name = "NAME")]
    pub name: Option<wire::FileName>,
    /// What kind of content it is, such as application/gzip
    #[arg(long, value_name = "TYPE")]
    pub media_type: Option<String>,
}

/// Puts `get` before the arguments when they name a file but no command.
pub fn with_default_command(args: Vec<OsString>) -> Vec<OsString> {
    let mut command = CommandLine::command();
    command.build();
    match first_positional(&command, &args) {
        Some(at) if args.get(at).is_some_and(names_file) => {
            let mut with = args;
            with.insert(1, "get".into());
            with
        }
        Some(_) | None => args,
    }
}

fn names_file(arg: &OsString) -> bool {
    arg.to_str().is_some_and(|text| text.parse::<FileId>().is_ok())
}

/// The place of the first argument that is neither an option nor an option's value.
fn first_positional(command: &ClapCommand, args: &[OsString]) -> Option<usize> {
    let mut skip = false;
    args.iter().enumerate().skip(1).find_map(|(at, arg)| {
        let text = arg.to_string_lossy();
        if std::mem::take(&mut skip) {
            return None;
        }
        if text.starts_with('-') && text.len() > 1 {
            skip = takes_next(command, &text);
            return None;
        }
        Some(at)
    })
}

/// Whether an option, of the program or of `get`, has its value in the next argument.
fn takes_next(command: &ClapCommand, option: &str) -> bool {
    if option == "--config" {
        return true;
    }
    let get = command.find_subcommand("get");
    let mut known = command.get_arguments().chain(get.into_iter().flat_map(ClapCommand::get_arguments));
    known.any(|arg| {
        let long = option.strip_prefix("--").is_some_and(|name| arg.get_long() == Some(name));
        let mut letters = option.chars().skip(1);
        let short = !option.starts_with("--") && arg.get_short() == letters.next() && letters.next().is_none();
        (long || short) && arg.get_action().takes_values()
    })
}

/// Prints the completion script.
pub fn print_completions(shell: Shell) {
    clap_complete::generate(shell, &mut CommandLine::command(), "ddm-client", &mut std::io::stdout());
}

/// Writes the manual's pages.
///
/// # Errors
/// When the folder cannot be written.
pub fn write_man_pages(folder: &Path) -> std::io::Result<()> {
    clap_mangen::generate_to(CommandLine::command(), folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<CommandLine, clap::Error> {
        let args = with_default_command(line.split(' ').map(OsString::from).collect());
        CommandLine::try_parse_from(args)
    }

    #[test]
    fn an_id_alone_downloads() {
        let id = FileId::new();
        for line in [
            format!("ddm-client {id}"),
            format!("ddm-client get {id}"),
            format!("ddm-client -o list {id}"),
            format!("ddm-client --output=list {id}"),
            format!("ddm-client --info http://x/ --json -f {id} --wait 5s"),
            format!("ddm-client {id} --zone eu"),
        ] {
            match parse(&line).unwrap().command {
                Command::Get(get) => assert_eq!(get.file, id, "{line}"),
                other => panic!("{line}: {other:?}"),
            }
        }
    }

    #[test]
    fn commands_stay_commands() {
        assert!(matches!(parse("ddm-client --info http://x/ list").unwrap().command, Command::List(_)));
        assert!(matches!(parse("ddm-client servers --json").unwrap().command, Command::Servers));
        for bad in ["ddm-client", "ddm-client nonsense", "ddm-client get x", "ddm-client --connections 0 list"] {
            assert_eq!(parse(bad).unwrap_err().exit_code(), 2, "{bad}");
        }
    }
}
