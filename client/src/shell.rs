//! The prompt: all commands, with completion and history. Downloads and uploads run in the background.

mod background_tasks;
mod complete;
mod known_ids;
mod line;
mod prompt;

use std::{
    io::{IsTerminal as _, stdin},
    time::Duration,
};

use clap::{Subcommand as _, error::ErrorKind};

use self::{
    background_tasks::BackgroundTasks,
    known_ids::{HIDDEN_COMMANDS, KnownIds, SHELL_COMMANDS},
    line::Entered,
    prompt::{Input, Prompt},
};
use crate::{
    cli::{self, Command, JobsCommand},
    commands,
    context::Context,
    exit::Exit,
    foreground::Foreground,
    output::{print, status},
};

pub(crate) use self::line::PromptOptions;

/// Runs the prompt until the user leaves it. `options` hold for every line that does not set them. Where the lines come from a file or
/// a pipe, the prompt fails if one of them does.
///
/// # Errors
/// When the prompt cannot be opened.
pub(crate) async fn run(context: &Context, options: &PromptOptions) -> anyhow::Result<Exit> {
    let known_ids = KnownIds::default();
    let mut prompt = Prompt::open(&known_ids, context.common.json)?;
    let mut tasks = BackgroundTasks::default();
    let mut has_failed = false;
    update_known_ids(context, &known_ids).await;
    let exit = loop {
        tasks.remove_ended();
        let input = context.cancel.run_until_cancelled(prompt.ask("ddm> ")).await;
        let line = match input {
            None => break Exit::Interrupted,
            Some(Input::Line(line)) => line,
            Some(Input::Interrupt) => {
                status("Type exit or press Ctrl-D to leave.");
                continue;
            }
            Some(Input::End) => "exit".to_owned(),
        };
        let Some(words) = shlex::split(&line) else {
            status("A quotation mark is not closed.");
            has_failed = true;
            continue;
        };
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match words.as_slice() {
            [] => {}
            ["exit" | "quit"] => {
                if tasks.is_empty() || prompt.confirm(&tasks.exit_question()).await {
                    break Exit::Done;
                }
            }
            ["help" | "?"] => help(),
            ["wait", which @ ..] => {
                let foreground = Foreground::begin(&context.cancel);
                if !tasks.is_empty() {
                    status("Waiting; Ctrl-C stops waiting.");
                }
                if !tasks.wait(which, foreground.token()).await && !context.cancel.is_cancelled() {
                    status("Stopped waiting; the tasks continue in the background.");
                }
            }
            ["cancel", which @ ..] => tasks.cancel(which).await,
            ["jobs"] => {
                tasks.list();
                let list = Command::Jobs(cli::Jobs { command: Some(JobsCommand::List) });
                has_failed |= run_command(context, Entered { command: list, common: context.common.clone() }).await;
            }
            words => match options.parse(words) {
                Ok(entered) => has_failed |= start(context, entered, &line, &mut tasks).await,
                Err(error) => has_failed |= refuse(words, &error),
            },
        }
        update_known_ids(context, &known_ids).await;
    };
    tasks.cancel_all().await;
    prompt.close();
    if exit == Exit::Done && (has_failed || tasks.has_failed()) && !stdin().is_terminal() {
        return Ok(Exit::Failed);
    }
    Ok(exit)
}

/// Runs a command: in the background if it takes long. Returns true if it failed already.
async fn start(context: &Context, entered: Entered, line: &str, tasks: &mut BackgroundTasks) -> bool {
    match &entered.command {
        Command::Shell | Command::Completions { .. } | Command::Man { .. } => {
            status("This command is not available at the prompt.");
            true
        }
        Command::Get(_) | Command::Fetch(_) | Command::Open(_) | Command::Publish(_) => {
            !tasks.start(context, entered, line.trim())
        }
        _ => run_command(context, entered).await,
    }
}

/// Runs a command in the foreground. Returns true if it failed.
async fn run_command(context: &Context, entered: Entered) -> bool {
    let foreground = Foreground::begin(&context.cancel);
    let cancel = foreground.token().clone();
    let own = Context { trace: context.trace, ..context.with_options(entered.common, cancel.clone()) };
    // An error was printed.
    let exit = cancel.run_until_cancelled(commands::run(&own, entered.command)).await;
    exit.is_some_and(|exit| matches!(exit, Exit::Failed | Exit::Usage))
}

/// Says what is wrong with a line, or shows the help that it asks for. Returns true if the line is wrong.
fn refuse(words: &[&str], error: &clap::Error) -> bool {
    if error.kind() != ErrorKind::InvalidSubcommand {
        status(error.to_string().trim_end());
        return error.use_stderr();
    }
    // `help` names the command that it explains.
    let words = words.strip_prefix(&["help"]).filter(|words| !words.is_empty()).unwrap_or(words);
    let word = words.first().map(|word| word.escape_debug().to_string()).unwrap_or_default();
    let similar = words.first().and_then(|word| cli::similar_command(word));
    let advice = similar.map(|similar| format!("did you mean {similar}? Type")).unwrap_or_else(|| "type".to_owned());
    status(&format!("'{word}' is not a file id, URL or command; {advice} help for a list."));
    true
}

fn help() {
    print("Type a file's name or id, a URL or a ddm:// link to download it. Downloads run in the background.");
    let command = Command::augment_subcommands(clap::Command::new("ddm-client"));
    let others = command
        .get_subcommands()
        .filter(|sub| !HIDDEN_COMMANDS.contains(&sub.get_name()) && !is_shell_command(sub.get_name()));
    let others =
        others.map(|sub| (sub.get_name().to_owned(), sub.get_about().map(ToString::to_string).unwrap_or_default()));
    let own = SHELL_COMMANDS.iter().map(|(name, about)| ((*name).to_owned(), (*about).to_owned()));
    own.chain(others).for_each(|(name, about)| print(&format!("  {name:<10} {about}")));
}

fn is_shell_command(name: &str) -> bool {
    SHELL_COMMANDS.iter().any(|(own, _)| *own == name)
}

/// Requests the ids and names of files and jobs for the completion, within a short time.
async fn update_known_ids(context: &Context, known_ids: &KnownIds) {
    const TIMEOUT_FOR_IDS: Duration = Duration::from_millis(500);
    let ids = async {
        let info = context.info_server()?;
        let files = info.files("", 100, None).await?.files;
        let jobs = info.jobs(100, None).await.map(|list| list.jobs).unwrap_or_default();
        let ids = files.iter().map(|file| file.id.to_string()).chain(jobs.iter().map(|job| job.id.to_string()));
        let names = files.iter().map(|file| &file.name).chain(jobs.iter().map(|job| &job.name));
        anyhow::Ok(ids.chain(names.map(ToString::to_string)).collect::<Vec<_>>())
    };
    if let Ok(Ok(ids)) = tokio::time::timeout(TIMEOUT_FOR_IDS, ids).await
        && let Ok(mut known_ids) = known_ids.lock()
    {
        *known_ids = ids;
    }
}
