//! The command line: the server itself, and what an operator does on the machine that keeps the catalogue.

pub mod audit;
pub mod orphans;
pub mod queue;
pub mod secrets;
pub mod user;

use std::{
    io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;
use lifecycle::{
    Shutdown,
    shutdown::{GRACE, note_hangups},
    telemetry::Telemetry,
};
use wire::ServerId;

use crate::{
    app::App,
    cli::{audit::AuditArgs, orphans::OrphanArgs, user::UserCommand},
    config::Config,
    maintenance::backup,
};

const CONFIG_FILE: &str = "/etc/ddm/info-server.toml";

/// DDM's info-server: accounts, catalogue and placement, download tokens.
#[derive(Debug, Parser)]
#[command(name = "ddm-info-server", version, about)]
pub struct CommandLine {
    /// Settings of the server.
    #[command(flatten)]
    pub config: Config,
    /// Settings of the log.
    #[command(flatten)]
    pub telemetry: Telemetry,
    /// The command; without one the server runs.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Commands beside the server.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the server (the default)
    Serve,
    /// List, add and change accounts
    #[command(subcommand)]
    User(UserCommand),
    /// Show the audit log, newest first
    Audit(AuditArgs),
    /// Copy the catalogue into a new file, checked and synced; the server may run meanwhile
    Backup {
        /// File to create; it must not exist. It does not contain the join secret: back that up separately
        path: PathBuf,
    },
    /// Restore a backup into the folder of --data; stop the server first
    ///
    /// All sessions and tokens end, because some of them may have been ended after the backup. Files that were published after the backup
    /// are orphaned: file servers keep their bytes and do not serve them (see 'ddm-file-server unknown').
    Restore {
        /// File of the backup
        path: PathBuf,
        /// Replace the present catalogue; it is kept under another name
        #[arg(long)]
        replace: bool,
    },
    /// Check that the server on this machine is ready; exit status 1 if not
    Healthcheck,
    /// Create the secrets of a deployment: those of info-server, file servers and RabbitMQ, each in a folder of its own
    Secrets {
        /// Folder in which to create `info`, `provider` and `broker`; existing secrets stay
        folder: PathBuf,
        /// Host and port at which RabbitMQ will be reached
        #[arg(long, default_value = "broker:5672", value_name = "HOST:PORT")]
        broker: String,
    },
    /// List orphaned files: file servers hold them, and the catalogue does not list them. They are kept and not served until an operator
    /// removes or adopts them ('ddm-file-server unknown' on the file server's machine)
    Unknown(OrphanArgs),
    /// Delete the queue of a file server that is gone for good, at the broker of --amqp or --amqp-file. A server that comes back
    /// creates its queue again and reads the events that it missed
    DropQueue {
        /// Id of the file server
        server: ServerId,
    },
    /// Print a completion script
    Completions {
        /// Shell to complete for
        shell: Shell,
    },
}

/// Prints the completion script.
pub fn print_completions(shell: Shell) {
    clap_complete::generate(shell, &mut CommandLine::command(), "ddm-info-server", &mut io::stdout());
}

/// Runs the program: parses the command line, then serves or runs one command.
///
/// It is no `async fn`, so that all that it awaits is compiled once, in this crate, and not again in the program.
pub fn main() -> ExitCode {
    let line = match lifecycle::settings::parse::<CommandLine>(Some(Path::new(CONFIG_FILE))) {
        Ok(line) => line,
        Err(error) => return lifecycle::settings::explain(&error),
    };
    match lifecycle::runtime::start().map_err(Into::into).and_then(|runtime| runtime.block_on(run(line))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ddm-info-server: {}", lifecycle::error_line::of(&error));
            ExitCode::FAILURE
        }
    }
}

async fn run(line: CommandLine) -> anyhow::Result<()> {
    match line.command {
        Some(Command::Completions { shell }) => {
            print_completions(shell);
            return Ok(());
        }
        Some(Command::User(user)) => return user::run(user, &line.config).await,
        Some(Command::Audit(args)) => return audit::print(args, &line.config).await,
        Some(Command::Backup { path }) => return backup::back_up(&path, &line.config).await,
        Some(Command::Restore { path, replace }) => return backup::restore(&path, replace, &line.config).await,
        Some(Command::Unknown(args)) => return orphans::print(args, &line.config).await,
        Some(Command::Healthcheck) => return http_front::healthcheck::run(line.config.listen.listen).await,
        Some(Command::Secrets { folder, broker }) => {
            line.telemetry.install()?;
            return secrets::make(&folder, &broker);
        }
        Some(Command::DropQueue { server }) => return queue::drop(&server, &line.config).await,
        Some(Command::Serve) | None => {}
    }
    line.telemetry.install()?;
    note_hangups("--amqp-file is read again at each connection; restart the server for other settings")?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn commands_refuse_a_folder_on_which_no_server_ever_worked_and_do_not_make_it() {
        let folder = tempfile::tempdir().unwrap();
        let typo = folder.path().join("typo");
        let backup = folder.path().join("backup");
        for command in [
            &["user", "list"][..],
            &["user", "passwd", "a@example.org"],
            &["audit"],
            &["unknown"],
            &["backup", backup.to_str().unwrap()],
        ] {
            let words =
                ["ddm-info-server", "--data", typo.to_str().unwrap()].into_iter().chain(command.iter().copied());
            let error = run(CommandLine::parse_from(words)).await.unwrap_err();
            let error = format!("{error:#}");
            assert!(error.contains("no server ever worked on this folder"), "{command:?}: {error}");
            assert!(!typo.exists(), "{command:?}");
        }
    }
}
