//! `ddm-client`: parse, then carry out one command.

use std::{io::stdin, process::ExitCode, time::Duration};

use ddm_client::{Exit, cli, session};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Signals closer together are one wish: a terminal and a wrapper may both pass it on.
const AGAIN: Duration = Duration::from_millis(300);

fn main() -> ExitCode {
    let file = session::folder().map(|folder| folder.join("client.toml"));
    let args = match cli::with_default_command(std::env::args_os().collect()) {
        Ok(args) => args,
        Err(error) => return lifecycle::settings::explain(&error),
    };
    let environment = std::env::var_os("DDM_CONFIG").map(Into::into);
    let line: cli::CommandLine = match lifecycle::settings::parse_from(args, environment, file.as_deref()) {
        Ok(line) => line,
        Err(error) => return lifecycle::settings::explain(&error),
    };
    if let Err(error) = line.telemetry.install() {
        eprintln!("ddm-client: {error:#}");
        return Exit::Failed.into();
    }
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("ddm-client: cannot start: {error}");
            return Exit::Failed.into();
        }
    };
    // A prompt changes it while it waits.
    let terminal = tcgetattr(stdin()).ok();
    let exit = runtime.block_on(async {
        let cancel = CancellationToken::new();
        tokio::select! {
            exit = ddm_client::run(line, cancel.clone()) => exit,
            () = signalled_twice(cancel) => {
                let _ = terminal.map(|terminal| tcsetattr(stdin(), OptionalActions::Now, &terminal));
                Exit::Interrupted
            }
        }
    });
    // A prompt that still waits for its line must not hold the end up.
    runtime.shutdown_background();
    exit.into()
}

/// The first signal ends the command soon and resumably. Ends at a second one: what is on disk can be resumed as after a kill.
async fn signalled_twice(cancel: CancellationToken) {
    signalled().await;
    cancel.cancel();
    tokio::time::sleep(AGAIN).await;
    signalled().await;
}

/// Waits for a signal that comes from now on; for ever where signals cannot be heard.
async fn signalled() {
    match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(mut terminate), Ok(mut interrupt)) => tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        },
        _ => std::future::pending().await,
    }
}
