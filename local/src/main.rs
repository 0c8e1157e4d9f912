#![doc = include_str!("../README.md")]

mod cli;
mod fleet;
mod sample;
mod show;

use std::process::ExitCode;

use lifecycle::Shutdown;

use cli::CommandLine;
use fleet::Fleet;

fn main() -> ExitCode {
    let line = match lifecycle::settings::parse::<CommandLine>(None) {
        Ok(line) => line,
        Err(error) => return lifecycle::settings::explain(&error),
    };
    match lifecycle::runtime::start().map_err(Into::into).and_then(|runtime| runtime.block_on(run(line))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ddm-local: {}", wire::name::escaped_lines(&format!("{error:#}")));
            ExitCode::FAILURE
        }
    }
}

async fn run(line: CommandLine) -> anyhow::Result<()> {
    line.telemetry.install()?;
    let shutdown = Shutdown::new();
    let signals = tokio::spawn(shutdown.clone().follow_signals_and_hangup(lifecycle::shutdown::GRACE));
    // Lives until the end: with --once and no --data, dropping it deletes the folder.
    let home = cli::Home::choose(&line)?;
    let mut fleet = Fleet::start(&line, &home).await?;
    let outcome = tokio::select! {
        outcome = show::run(&line, &home, &mut fleet) => outcome,
        () = shutdown.finishing().cancelled() => Ok(()),
    };
    if outcome.is_ok() && !line.once {
        shutdown.finishing().cancelled().await;
    }
    let stopped = fleet.stop().await;
    signals.abort();
    outcome.and(stopped)
}
