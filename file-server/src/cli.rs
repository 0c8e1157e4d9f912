//! The program: parses the command line, then serves until a signal stops it, or runs one command.

pub mod import;
pub(crate) mod login;

use std::{path::Path, process::ExitCode, time::Duration};

use clap::CommandFactory as _;
use lifecycle::{Shutdown, settings, shutdown::GRACE};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{
    App, ScrubTrigger,
    catalogue_sync::orphans,
    config::{Cli, Command, Config, DEFAULT_FILE},
};

/// Time that threads have to end once everything has stopped.
const THREAD_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs the program: parses the command line, then serves or runs one command.
///
/// It is no `async fn`, so that all that it awaits is compiled once, in this crate, and not again in the program.
pub fn main() -> ExitCode {
    let cli: Cli = match settings::parse(Some(Path::new(DEFAULT_FILE))) {
        Ok(cli) => cli,
        Err(error) => {
            // A failure here means that the terminal is gone.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    if let Some(Command::Completions { shell }) = cli.command {
        clap_complete::generate(shell, &mut Cli::command(), "ddm-file-server", &mut std::io::stdout());
        return ExitCode::SUCCESS;
    }
    match start(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ddm-file-server: {}", lifecycle::error_line::of(&error));
            ExitCode::FAILURE
        }
    }
}

fn start(cli: Cli) -> anyhow::Result<()> {
    let runtime = lifecycle::runtime::start()?;
    let outcome = runtime.block_on(run(cli));
    // A thread that waits for a stalled disk must not keep a process that is to stop.
    runtime.shutdown_timeout(THREAD_TIMEOUT);
    outcome
}

async fn run(cli: Cli) -> anyhow::Result<()> {
    cli.telemetry.install()?;
    cli.config.check()?;
    match cli.command {
        Some(Command::Import(import)) => import::run(cli.config, import).await,
        Some(Command::Unknown(command)) => orphans::run(cli.config, command).await,
        Some(Command::Healthcheck) => http_front::healthcheck::run(cli.config.listen.listen).await,
        Some(Command::Serve | Command::Completions { .. }) | None => serve(cli.config).await,
    }
}

async fn serve(config: Config) -> anyhow::Result<()> {
    let app = App::build(config).await?;
    let shutdown = Shutdown::new();
    let signals = tokio::spawn(shutdown.clone().follow_signals(GRACE));
    let hangups = tokio::spawn(scrub_at_hangups(app.scrub_trigger(), signal(SignalKind::hangup())?));
    // The port is open: connections from now on are answered.
    lifecycle::systemd::notify_ready();
    let outcome = app.run(shutdown).await;
    signals.abort();
    hangups.abort();
    outcome
}

/// Starts a verification of everything stored at each SIGHUP.
async fn scrub_at_hangups(scrub: ScrubTrigger, mut hangups: Signal) {
    while hangups.recv().await.is_some() {
        scrub.start_round();
    }
}
