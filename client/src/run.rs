//! The program: parses the command line and runs one command, or the prompt.

use std::{ffi::OsString, io::stdin, process::ExitCode, time::Duration};

use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::{
    cli::{self, Command, CommandLine},
    commands, conclusion,
    context::Context,
    exit::Exit,
    foreground::interrupt_foreground,
    session,
    shell::{self, PromptOptions},
};

/// Time within which further signals count as the first one: a terminal and a wrapper may both forward it.
const SIGNAL_GROUPING_TIME: Duration = Duration::from_millis(300);

/// Runs the program until its command ends or is interrupted by two signals.
///
/// It is no `async fn`, so that all that it awaits is compiled once, in this crate, and not again in the program.
pub fn main() -> ExitCode {
    let file = session::folder().map(|folder| folder.join("client.toml"));
    let args = match cli::with_default_command(std::env::args_os().collect()) {
        Ok(args) => args,
        Err(error) => return lifecycle::settings::explain(&error),
    };
    let environment = std::env::var_os("DDM_CONFIG").map(Into::into);
    let line: cli::CommandLine = match lifecycle::settings::parse_from(args.clone(), environment, file.as_deref()) {
        Ok(line) => line,
        Err(error) => return lifecycle::settings::explain(&error),
    };
    if let Err(error) = line.telemetry.install() {
        eprintln!("ddm-client: {}", lifecycle::error_line::of(&error));
        return Exit::Failed.into();
    }
    let runtime = match lifecycle::runtime::start() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("ddm-client: cannot start: {error}");
            return Exit::Failed.into();
        }
    };
    // A prompt changes the settings while it waits.
    let terminal = tcgetattr(stdin()).ok();
    let exit = runtime.block_on(async {
        let cancel = CancellationToken::new();
        tokio::select! {
            exit = run(line, &args, cancel.clone()) => exit,
            () = signalled_twice(cancel) => {
                let _ = terminal.map(|terminal| tcsetattr(stdin(), OptionalActions::Now, &terminal));
                Exit::Interrupted
            }
        }
    });
    // A prompt that waits for a line must not delay the exit.
    runtime.shutdown_background();
    exit.into()
}

/// Cancels the command at the first signal, and returns at the second. The state on disk is then as resumable as after a kill.
async fn signalled_twice(cancel: CancellationToken) {
    signalled().await;
    cancel.cancel();
    tokio::time::sleep(SIGNAL_GROUPING_TIME).await;
    signalled().await;
}

/// Waits for the next signal; for ever where none can be received.
async fn signalled() {
    // Asked before a handler is installed, which would undo what nohup did.
    let is_kept = std::fs::read_to_string("/proc/self/status").is_ok_and(|status| ignores_hangup(&status));
    let mut hangup = if is_kept { None } else { signal(SignalKind::hangup()).ok() };
    let signals = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    let (Ok(mut terminate), Ok(mut interrupt)) = signals else { return std::future::pending().await };
    loop {
        let hung_up = async {
            match &mut hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = terminate.recv() => return,
            _ = hung_up => return,
            // At a prompt, Ctrl-C ends what the prompt waits for, and not the prompt.
            _ = interrupt.recv() => if !interrupt_foreground() { return },
        }
    }
}

/// Runs a command until it ends or `cancel` is cancelled.
async fn run(line: CommandLine, args: &[OsString], cancel: CancellationToken) -> Exit {
    let context = Context::new(line.common, cancel);
    match line.command {
        Command::Shell => {
            let options = PromptOptions::new(args, line.telemetry);
            conclusion::conclude(&context, shell::run(&context, &options).await)
        }
        command => commands::run(&context, command).await,
    }
}

/// Returns true if a process with this status ignores SIGHUP, as one that `nohup` started does.
fn ignores_hangup(status: &str) -> bool {
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hangup_that_was_to_be_ignored_stays_so() {
        for (status, ignores) in [
            ("SigQ:\t0/1\nSigIgn:\t0000000000001001\nSigCgt:\t0000000000000000\n", true),
            ("SigIgn:\t0000000000001000\nSigCgt:\t0000000000000001\n", false),
            ("", false),
        ] {
            assert_eq!(ignores_hangup(status), ignores, "{status}");
        }
    }
}
