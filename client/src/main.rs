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
    let exit = runtime.block_on(async {
        let cancel = CancellationToken::new();
        let watcher = tokio::spawn(cancel_on_signal(cancel.clone()));
        let exit = ddm_client::run(line, cancel).await;
        watcher.abort();
        exit
    });
    // A prompt that still waits for its line must not hold the end up.
    runtime.shutdown_background();
    exit.into()
}

/// The first signal ends the command soon and resumably, a second one at once: what is on disk can be resumed as after a kill.
async fn cancel_on_signal(cancel: CancellationToken) {
    // A prompt changes it while it waits.
    let terminal = tcgetattr(stdin()).ok();
    if signalled().await.is_ok() {
        cancel.cancel();
        tokio::time::sleep(AGAIN).await;
        if signalled().await.is_ok() {
            let _ = terminal.map(|terminal| tcsetattr(stdin(), OptionalActions::Now, &terminal));
            std::process::exit(Exit::Interrupted as i32);
        }
    }
}

/// Waits for a signal that comes from now on.
async fn signalled() -> std::io::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
