#![doc = include_str!("../README.md")]

mod cli;
mod fleet;
mod sample;
mod show;

use std::process::ExitCode;

use lifecycle::Shutdown;

use cli::CommandLine;
use fleet::Fleet;

/// Exit status of an interrupted command, as that of the client.
const INTERRUPTED: u8 = 3;

/// End of the program without an error.
enum Ending {
    Complete,
    /// A signal came before the first download was complete.
    Interrupted,
}

fn main() -> ExitCode {
    let line = match lifecycle::settings::parse::<CommandLine>(None) {
        Ok(line) => line,
        Err(error) => return lifecycle::settings::explain(&error),
    };
    match lifecycle::runtime::start().map_err(Into::into).and_then(|runtime| runtime.block_on(run(line))) {
        Ok(Ending::Complete) => ExitCode::SUCCESS,
        Ok(Ending::Interrupted) => {
            eprintln!("ddm-local: interrupted before the download was complete");
            ExitCode::from(INTERRUPTED)
        }
        Err(error) => {
            eprintln!("ddm-local: {}", lifecycle::error_line::of(&error));
            ExitCode::FAILURE
        }
    }
}

async fn run(line: CommandLine) -> anyhow::Result<Ending> {
    line.telemetry.install()?;
    let shutdown = Shutdown::new();
    let signals = tokio::spawn(shutdown.clone().follow_signals_and_hangup(lifecycle::shutdown::GRACE));
    if let Some(url) = &line.amqp
        && let Err(error) = fleet::check_broker(url).await
    {
        if line.once {
            return Err(error);
        }
        // The servers connect as soon as they can.
        eprintln!(
            "ddm-local: {}; events arrive late until it can be reached",
            wire::name::escaped_lines(&format!("{error:#}"))
        );
    }
    // Lives until the end: with --once and no --data, dropping it deletes the folder.
    let home = cli::Home::choose(&line)?;
    let mut fleet = Fleet::start(&line, &home).await?;
    let outcome = tokio::select! {
        outcome = show::run(&line, &home, &mut fleet) => outcome.map(|()| Ending::Complete),
        () = shutdown.finishing().cancelled() => Ok(Ending::Interrupted),
    };
    if outcome.is_ok() && !line.once {
        shutdown.finishing().cancelled().await;
    }
    let stopped = fleet.stop().await;
    signals.abort();
    outcome.and_then(|ending| stopped.map(|()| ending))
}
