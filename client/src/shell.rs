//! A prompt: the commands of the command line, with completion and history. What takes long runs beside it.

mod complete;
mod prompt;
mod running;

use std::sync::{Arc, Mutex};

use anyhow::Context as _;
use clap::{Subcommand as _, error::ErrorKind};

use self::{
    prompt::{Prompt, Said},
    running::Running,
};
use crate::{
    cli::{self, Command, CommandLine, JobsCommand},
    commands::{self, Context, Exit, say, tell},
};

pub(crate) use self::running::{in_background, note_status};

/// What can be typed besides the commands of the command line.
const OWN: [(&str, &str); 5] = [
    ("help", "Show this"),
    ("jobs", "List what runs here, and the jobs that you asked for"),
    ("wait", "Wait until what runs here has ended; with a number, for that alone"),
    ("cancel", "End what runs here under a number; the same command goes on with it later"),
    ("exit", "Leave; what runs here is ended resumably"),
];
/// Commands that make no sense at a prompt.
const NOT_HERE: [&str; 3] = ["shell", "completions", "man"];

/// Ids that were seen, to be completed.
type Seen = Arc<Mutex<Vec<String>>>;

/// Runs the prompt until its user leaves.
///
/// # Errors
/// When there is no prompt to be had.
pub(crate) async fn run(context: &Context) -> anyhow::Result<Exit> {
    let seen = Seen::default();
    let mut prompt = Prompt::open(&seen, context.common.json)?;
    let mut running = Running::default();
    look(context, &seen).await;
    let exit = loop {
        running.forget_ended();
        let said = context.cancel.run_until_cancelled(prompt.ask("ddm> ")).await;
        let line = match said {
            None => break Exit::Interrupted,
            Some(Said::Line(line)) => line,
            Some(Said::Interrupt) => {
                tell("exit, or Ctrl-D, leaves.");
                continue;
            }
            Some(Said::End) => "exit".to_owned(),
        };
        let Some(words) = shlex::split(&line) else {
            tell("There is a quotation mark too many or too few.");
            continue;
        };
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match words.as_slice() {
            [] => {}
            ["exit" | "quit"] => {
                if running.is_empty() || prompt.agrees(&running.question()).await {
                    break Exit::Done;
                }
            }
            ["help" | "?"] => help(),
            ["wait", which @ ..] => running.wait(which, &context.cancel).await,
            ["cancel", which @ ..] => running.cancel(which).await,
            ["jobs"] => {
                running.list();
                carry_out(context, Command::Jobs(cli::Jobs { command: Some(JobsCommand::List) })).await;
            }
            words => begin(context, words, &line, &mut running).await,
        }
        look(context, &seen).await;
    };
    running.end_all().await;
    prompt.close();
    Ok(exit)
}

/// Carries a command out: beside the prompt if it takes long.
async fn begin(context: &Context, words: &[&str], line: &str, running: &mut Running) {
    let command = match parse(words) {
        Ok(command) => command,
        Err(error) if error.kind() == ErrorKind::InvalidSubcommand => {
            let word = words.first().map(|word| word.escape_debug().to_string()).unwrap_or_default();
            tell(&format!("'{word}' is neither a file's id, a URL nor a command; help lists the commands."));
            return;
        }
        Err(error) => {
            tell(error.to_string().trim_end());
            return;
        }
    };
    match command {
        Command::Shell | Command::Completions { .. } | Command::Man { .. } => {
            tell("That is for outside of the prompt.")
        }
        Command::Get(_) | Command::Fetch(_) | Command::Open(_) | Command::Publish(_) => {
            running.start(context, command, line.trim());
        }
        command => carry_out(context, command).await,
    }
}

async fn carry_out(context: &Context, command: Command) {
    // Whatever went wrong was said.
    context.cancel.run_until_cancelled(commands::outcome(context, command)).await;
}

fn parse(words: &[&str]) -> Result<Command, clap::Error> {
    let args = std::iter::once("ddm-client").chain(words.iter().copied()).map(Into::into).collect();
    let args = cli::with_default_command(args)?;
    let file = crate::session::folder().map(|folder| folder.join("client.toml"));
    let environment = std::env::var_os("DDM_CONFIG").map(Into::into);
    let line: CommandLine = lifecycle::settings::parse_from(args, environment, file.as_deref())?;
    Ok(line.command)
}

fn help() {
    say("A file's id, a URL or a ddm:// link alone is downloaded. Downloads run beside the prompt.");
    let command = Command::augment_subcommands(clap::Command::new("ddm-client"));
    let others = command.get_subcommands().filter(|sub| !NOT_HERE.contains(&sub.get_name()) && !is_own(sub.get_name()));
    let others =
        others.map(|sub| (sub.get_name().to_owned(), sub.get_about().map(ToString::to_string).unwrap_or_default()));
    let own = OWN.iter().map(|(name, about)| ((*name).to_owned(), (*about).to_owned()));
    own.chain(others).for_each(|(name, about)| say(&format!("  {name:<10} {about}")));
}

fn is_own(name: &str) -> bool {
    OWN.iter().any(|(own, _)| *own == name)
}

/// Looks which ids there are, for the completion; nobody waits long for that.
async fn look(context: &Context, seen: &Seen) {
    const LONGEST: std::time::Duration = std::time::Duration::from_millis(500);
    let ids = async {
        let info = context.info_server()?;
        let files = info.files("", 100, None).await?.files;
        let jobs = info.jobs(100, None).await.map(|list| list.jobs).unwrap_or_default();
        let ids = files.iter().map(|file| file.id.to_string()).chain(jobs.iter().map(|job| job.id.to_string()));
        anyhow::Ok(ids.collect::<Vec<_>>())
    };
    if let Ok(Ok(ids)) = tokio::time::timeout(LONGEST, ids).await
        && let Ok(mut seen) = seen.lock()
    {
        *seen = ids;
    }
}

/// Where the history is kept.
///
/// # Errors
/// When the user's folder for state is unknown or cannot be made.
fn history() -> anyhow::Result<std::path::PathBuf> {
    let dirs = directories::ProjectDirs::from("", "", "ddm").context("your home folder is unknown")?;
    let folder = dirs.state_dir().unwrap_or_else(|| dirs.data_local_dir()).to_owned();
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder.join("history"))
}
