//! `ddm-info-server`: parse, then serve or do what was asked.

use std::{path::Path, process::ExitCode};

use ddm_info_server::{
    App, backup,
    command::{self, Command, CommandLine},
    secrets,
};
use lifecycle::{Shutdown, shutdown::GRACE};

const CONFIG_FILE: &str = "/etc/ddm/info-server.toml";

#[tokio::main]
async fn main() -> ExitCode {
    let line = match lifecycle::settings::parse::<CommandLine>(Some(Path::new(CONFIG_FILE))) {
        Ok(line) => line,
        Err(error) => return lifecycle::settings::explain(&error),
    };
    match run(line).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ddm-info-server: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(line: CommandLine) -> anyhow::Result<()> {
    match line.command {
        Some(Command::Completions { shell }) => {
            command::print_completions(shell);
            return Ok(());
        }
        Some(Command::User(user)) => return command::run(user, &line.config).await,
        Some(Command::Audit(shown)) => return command::print_audit(shown, &line.config).await,
        Some(Command::Backup { path }) => return backup::back_up(&path, &line.config).await,
        Some(Command::Restore { path, replace }) => return backup::restore(&path, replace, &line.config).await,
        Some(Command::Unknown(shown)) => return command::print_unknown(shown, &line.config).await,
        Some(Command::Healthcheck) => return lifecycle::healthcheck::run(line.config.place.listen).await,
        Some(Command::Secrets { folder, broker }) => {
            line.telemetry.install()?;
            return secrets::make(&folder, &broker);
        }
        Some(Command::DropQueue { server }) => return command::drop_queue(&server, &line.config).await,
        Some(Command::Serve) | None => {}
    }
    line.telemetry.install()?;
    let app = App::build(line.config).await?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "listening on http://{}", app.local_addr()?);
    let shutdown = Shutdown::new();
    let signals = tokio::spawn(shutdown.clone().follow_signals(GRACE));
    // The port is open: what connects from now on is answered.
    lifecycle::systemd::notify_ready();
    app.run(shutdown).await?;
    signals.abort();
    tracing::info!("stopped");
    Ok(())
}
