//! The command line.

mod fetch;

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, Command as ClapCommand, CommandFactory as _, Parser, Subcommand, error::ErrorKind};
use clap_complete::Shell;
use lifecycle::telemetry::Telemetry;
use secrecy::SecretString;
use url::Url;
use wire::{FileId, ServerId, SessionId, Zone};

pub use self::fetch::{Fetch, Jobs, JobsCommand, Open, Target, Wish};

/// DDM's client: downloads files from several servers at once and checks every chunk.
#[derive(Debug, Parser)]
#[command(
    name = "ddm-client",
    version,
    about,
    // Warnings of the engine are shown as events of the download; the log is for those who look for it.
    mut_arg("log", |arg| arg.default_value("error")),
    override_usage = "ddm-client [OPTIONS] <FILE-ID>\n       ddm-client [OPTIONS] <URL>\n       ddm-client [OPTIONS] <COMMAND>"
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
    #[arg(long, env = "DDM_PROXY", value_parser = proxy, value_name = "URL", global = true)]
    pub proxy: Option<Url>,
    /// Proxy (http, https or socks5) for files of the web that are fetched from here alone [default: that of --proxy]
    #[arg(long, env = "DDM_ORIGIN_PROXY", hide_env_values = true, value_name = "URL", global = true)]
    pub origin_proxy: Option<SecretString>,
    /// A file (PEM) of certificate authorities that are trusted besides the system's when a file of the web is fetched
    #[arg(long, env = "DDM_ORIGIN_CA", value_name = "FILE", global = true)]
    pub origin_ca: Option<PathBuf>,
}

/// What the client can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Download a file (what `ddm-client <FILE-ID>` does)
    Get(Get),
    /// Fetch a file of the web together with file servers (what `ddm-client <URL>` does)
    Fetch(Fetch),
    /// List, show and cancel what is being fetched from the web
    Jobs(Jobs),
    /// Open a ddm:// link: a file, a URL or a job
    Open(Open),
    /// A prompt with completion and history, which running downloads do not block
    Shell,
    /// List files
    #[command(visible_alias = "ls")]
    List(List),
    /// Show one file: size, digests, where it stands
    Info {
        /// The file's id
        file: FileId,
    },
    /// Write a file's Metalink, for other download programs
    Metalink(Metalink),
    /// Publish files on several servers
    Publish(Publish),
    /// Remove a published file everywhere
    Remove {
        /// The file's id
        file: FileId,
    },
    /// Show on which servers a file stands, and how much of it each has verified
    Replicas {
        /// The file's id
        file: FileId,
    },
    /// Have a file stand in one more zone, which --zone names
    Preheat(Preheat),
    /// Empty a file server: what it holds is placed elsewhere first; for admins
    Drain(Drain),
    /// List the live file servers
    Servers,
    /// Log in and keep the login in a file that only you can read
    Login {
        /// The account's name; asked for when absent
        email: Option<String>,
    },
    /// End the login
    Logout,
    /// List your open sessions
    Sessions(Sessions),
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

impl Command {
    /// Whether it ends soon and resumably when it is told to; any other is just left where it is.
    pub(crate) const fn ends_by_itself(&self) -> bool {
        matches!(
            self,
            Self::Get(_)
                | Self::Fetch(_)
                | Self::Open(_)
                | Self::Shell
                | Self::Publish(_)
                | Self::Preheat(_)
                | Self::Drain(_)
        )
    }
}

/// Of which file to write the Metalink, and where.
#[derive(Debug, Clone, Args)]
pub struct Metalink {
    /// The file's id
    pub file: FileId,
    /// Folder or file name to write to [default: standard output]
    #[arg(short, long, value_name = "PATH")]
    pub output: Option<PathBuf>,
    /// Replace an existing file of that name
    #[arg(short = 'f', long, requires = "output")]
    pub replace: bool,
}

/// How to download.
#[derive(Debug, Clone, Args)]
pub struct Get {
    /// The file's id
    pub file: FileId,
    /// Where it goes.
    #[command(flatten)]
    pub target: Target,
    /// Requests in flight at each server
    #[arg(long, env = "DDM_CONNECTIONS", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64), value_name = "COUNT")]
    pub connections: u16,
}

/// Which sessions to end.
#[derive(Debug, Clone, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Sessions {
    /// End all of them but this one
    #[arg(long)]
    pub others: bool,
    /// What to do; without it they are listed
    #[command(subcommand)]
    pub command: Option<SessionsCommand>,
}

/// What can be done to one session.
#[derive(Debug, Clone, Subcommand)]
pub enum SessionsCommand {
    /// End one session
    Close {
        /// Its id
        session: SessionId,
    },
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
    /// Servers that should hold a file: of each zone when zones are named, in all when none are [default: the
    /// info-server's]
    #[arg(long, value_name = "COUNT")]
    pub replicas: Option<u32>,
    /// Zones that a file should stand in, and the only ones, such as eu,us [default: the info-server's]
    #[arg(long, value_delimiter = ',', value_name = "ZONE")]
    pub zones: Option<Vec<Zone>>,
    /// Wait until every replica is complete and verified; exit status 1 if they are not in time [default: 10m when given
    /// without a time]
    #[arg(long, value_parser = lifecycle::settings::duration, num_args = 0..=1, require_equals = true, default_missing_value = "10m", value_name = "TIME")]
    pub wait: Option<Duration>,
    /// Publish under another name; only with a single file
    #[arg(long, value_name = "NAME")]
    pub name: Option<wire::FileName>,
    /// What kind of content it is, such as application/gzip
    #[arg(long, value_name = "TYPE")]
    pub media_type: Option<String>,
}

/// Where a file should stand as well: in the zone of `--zone`.
#[derive(Debug, Clone, Args)]
pub struct Preheat {
    /// The file's id
    pub file: FileId,
    /// On how many of its servers [default: the info-server's]
    #[arg(long, value_name = "COUNT")]
    pub replicas: Option<u32>,
    /// Wait until it is complete and verified there; exit status 1 if it is not in time [default: 10m when given without a
    /// time]
    #[arg(long, value_parser = lifecycle::settings::duration, num_args = 0..=1, require_equals = true, default_missing_value = "10m", value_name = "TIME")]
    pub wait: Option<Duration>,
}

/// Which server to empty.
#[derive(Debug, Clone, Args)]
pub struct Drain {
    /// The server's id
    pub server: ServerId,
    /// Wait until it holds nothing that is wanted; exit status 1 if it does in the end [default: 1h when given without a
    /// time]
    #[arg(long, value_parser = lifecycle::settings::duration, num_args = 0..=1, require_equals = true, default_missing_value = "1h", value_name = "TIME", conflicts_with = "undo")]
    pub wait: Option<Duration>,
    /// Have it take files again
    #[arg(long)]
    pub undo: bool,
}

/// Puts `get`, `fetch` or `open` before the arguments when they name a file, a URL or a link but no command.
///
/// # Errors
/// When the first argument is neither of these nor a command.
pub fn with_default_command(args: Vec<OsString>) -> Result<Vec<OsString>, clap::Error> {
    let mut command = CommandLine::command();
    command.build();
    let Some(at) = first_positional(&command, &args) else { return Ok(args) };
    let Some(first) = args.get(at).map(|first| first.to_string_lossy().into_owned()) else { return Ok(args) };
    if let Some(default) = default_command(&first) {
        let mut with = args;
        with.insert(1, default.into());
        return Ok(with);
    }
    if command.find_subcommand(&first).is_some() || first == "--" {
        return Ok(args);
    }
    let message = format!(
        "'{}' is neither a file's id, a URL nor a command; `ddm-client list` shows the ids, `ddm-client --help` the commands",
        first.escape_debug()
    );
    Err(command.error(ErrorKind::InvalidSubcommand, message))
}

/// What is meant by an argument that is no command. What looks like a URL is told what is wrong with it by `fetch`.
fn default_command(first: &str) -> Option<&'static str> {
    let scheme = first.split_once(':').map(|(scheme, _)| scheme.to_ascii_lowercase());
    match scheme.as_deref() {
        _ if first.parse::<FileId>().is_ok() => Some("get"),
        Some("ddm") => Some("open"),
        Some(_) if first.contains("://") => Some("fetch"),
        _ => None,
    }
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

/// Whether an option, of the program or of a command that may be left out, has its value in the next argument.
fn takes_next(command: &ClapCommand, option: &str) -> bool {
    if option == "--config" {
        return true;
    }
    let left_out = ["get", "fetch", "open"].into_iter().filter_map(|name| command.find_subcommand(name));
    let mut known = command.get_arguments().chain(left_out.flat_map(ClapCommand::get_arguments));
    known.any(|arg| {
        let named = |name: &str| {
            arg.get_long() == Some(name) || arg.get_visible_aliases().is_some_and(|aliases| aliases.contains(&name))
        };
        let long = option.strip_prefix("--").is_some_and(named);
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

/// A proxy of a kind that there is: any other would silently not be used.
fn proxy(text: &str) -> Result<Url, String> {
    let known = |url: &Url| matches!(url.scheme(), "http" | "https" | "socks5" | "socks5h") && url.has_host();
    let unclear =
        || "it must be a URL such as http://proxy.example.org:3128 or socks5://proxy.example.org:1080".to_owned();
    text.parse().ok().filter(known).ok_or_else(unclear)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<CommandLine, clap::Error> {
        let args = with_default_command(line.split(' ').map(OsString::from).collect())?;
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
    fn a_url_alone_is_fetched_and_a_link_opened() {
        for line in [
            "ddm-client https://example.org/x?a=b",
            "ddm-client fetch https://example.org/x?a=b",
            "ddm-client --sha256 0000000000000000000000000000000000000000000000000000000000000000 https://example.org/x?a=b",
            "ddm-client --connections 4 --keep --in 2h https://example.org/x?a=b -o list",
            "ddm-client --at 22:30 --zones eu,us --json https://example.org/x?a=b",
        ] {
            match parse(line).unwrap().command {
                Command::Fetch(fetch) => assert_eq!(fetch.url.url().as_str(), "https://example.org/x?a=b", "{line}"),
                other => panic!("{line}: {other:?}"),
            }
        }
        let link = "ddm-client -o list ddm://job/01890a5d-ac96-774b-bcce-b302099a8057";
        assert!(matches!(parse(link).unwrap().command, Command::Open(_)));
        for (bad, why) in [
            ("ddm-client ftp://example.org/x", "only http and https"),
            ("ddm-client https://me:secret@example.org/x", "user name"),
            ("ddm-client --direct --keep https://example.org/x", "cannot be used with"),
            ("ddm-client --at 22:30 --in 2h https://example.org/x", "cannot be used with"),
            ("ddm-client --at soon https://example.org/x", "a time looks like"),
            ("ddm-client ddm://nonsense", "a link looks like"),
            ("ddm-client --proxy ftp://127.0.0.1:1 list", "a URL such as http://"),
            ("ddm-client --proxy proxy:3128 list", "a URL such as http://"),
        ] {
            let error = parse(bad).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{bad}");
            assert!(error.to_string().contains(why), "{bad}: {error}");
        }
    }

    #[test]
    fn commands_stay_commands() {
        assert!(matches!(parse("ddm-client --info http://x/ list").unwrap().command, Command::List(_)));
        assert!(matches!(parse("ddm-client servers --json").unwrap().command, Command::Servers));
        for bad in ["ddm-client", "ddm-client nonsense", "ddm-client get x", "ddm-client --connections 0 list"] {
            assert_eq!(parse(bad).unwrap_err().exit_code(), 2, "{bad}");
        }
        let error = parse("ddm-client --json nonsense").unwrap_err().to_string();
        assert!(error.contains("'nonsense' is neither a file's id, a URL nor a command"), "{error}");
    }
}
