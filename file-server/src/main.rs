//! The program: reads its settings, then serves until it is told to stop.

use std::{path::Path, process::ExitCode, time::Duration};

use clap::CommandFactory as _;
use ddm_file_server::{
    App, ScrubNow,
    config::{Cli, Command, Config, DEFAULT_FILE},
    import, unknown,
};
use lifecycle::{Shutdown, settings, shutdown::GRACE};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How long threads may go on once everything has stopped.
const LINGER: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let cli: Cli = match settings::parse(Some(Path::new(DEFAULT_FILE))) {
        Ok(cli) => cli,
        Err(error) => {
            // Nothing can be said if the terminal is gone.
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
            eprintln!("ddm-file-server: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(cli: Cli) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let outcome = runtime.block_on(run(cli));
    // A thread that hangs on a disk must not keep a process that was told to stop.
    runtime.shutdown_timeout(LINGER);
    outcome
}

async fn run(cli: Cli) -> anyhow::Result<()> {
    cli.telemetry.install()?;
    cli.config.check()?;
    match cli.command {
        Some(Command::Import(import)) => import::run(cli.config, import).await,
        Some(Command::Unknown(what)) => unknown::run(cli.config, what).await,
        Some(Command::Healthcheck) => lifecycle::healthcheck::run(cli.config.listen.listen).await,
        Some(Command::Serve | Command::Completions { .. }) | None => serve(cli.config).await,
    }
}

async fn serve(config: Config) -> anyhow::Result<()> {
    let app = App::build(config).await?;
    let shutdown = Shutdown::new();
    let signals = tokio::spawn(shutdown.clone().follow_signals(GRACE));
    let hangups = tokio::spawn(scrub_at_hangups(app.scrub_now(), signal(SignalKind::hangup())?));
    // The port is open: what connects from now on is answered.
    lifecycle::systemd::notify_ready();
    let outcome = app.run(shutdown).await;
    signals.abort();
    hangups.abort();
    outcome
}

/// SIGHUP asks for everything held to be read again, now.
async fn scrub_at_hangups(scrub: ScrubNow, mut hangups: Signal) {
    while hangups.recv().await.is_some() {
        scrub.ask();
    }
}
