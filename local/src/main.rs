#![doc = include_str!("../README.md")]

mod cli;
mod fleet;
mod sample;
mod show;

use std::process::ExitCode;

use lifecycle::Shutdown;

use cli::CommandLine;
use fleet::Fleet;

#[tokio::main]
async fn main() -> ExitCode {
    let line = match lifecycle::settings::parse::<CommandLine>(None) {
        Ok(line) => line,
        Err(error) => return lifecycle::settings::explain(&error),
    };
    match run(line).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ddm-local: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(line: CommandLine) -> anyhow::Result<()> {
    line.telemetry.install()?;
    let shutdown = Shutdown::new();
    let signals = tokio::spawn(shutdown.clone().follow_signals(lifecycle::shutdown::GRACE));
    // Kept until the end: with --once and no --data it is a folder that goes with it.
    let home = cli::Home::choose(&line)?;
    let mut fleet = Fleet::start(&line, &home).await?;
    let told = tokio::select! {
        told = show::run(&line, &home, &mut fleet) => told,
        () = shutdown.finishing().cancelled() => Ok(()),
    };
    if told.is_ok() && !line.once {
        shutdown.finishing().cancelled().await;
    }
    let stopped = fleet.stop().await;
    signals.abort();
    told.and(stopped)
}
