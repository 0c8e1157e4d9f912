//! The command line: the server itself, and accounts, which are made on the machine that keeps them.

use std::{
    io::{self, IsTerminal as _, Read as _},
    path::PathBuf,
};

use anyhow::{Context as _, bail, ensure};
use clap::{CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;
use jiff::Timestamp;
use lifecycle::{private_file, telemetry::Telemetry};
use secrecy::{ExposeSecret as _, SecretString};

use crate::{
    config::Config,
    passwords,
    store::{
        Store,
        accounts::{self, Role},
    },
};

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
    /// What to do; without it the server runs.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What else can be done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the server (the default)
    Serve,
    /// Make and change accounts
    #[command(subcommand)]
    User(UserCommand),
    /// Ask the server on this machine whether it is ready; exit status 1 if not
    Healthcheck,
    /// Make the secrets of a deployment: of info-server, file servers and RabbitMQ, each in a folder of its own
    Secrets {
        /// Where to make the folders `info`, `provider` and `broker`; what is there stays
        folder: PathBuf,
        /// Host and port at which RabbitMQ will be reached
        #[arg(long, default_value = "broker:5672", value_name = "HOST:PORT")]
        broker: String,
    },
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// What can be done to accounts.
#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// Make an account; asks for the password, or reads it from standard input
    Add {
        /// The account's name
        email: String,
        /// What it may do
        #[arg(long, default_value = "reader")]
        role: Role,
    },
    /// Change a password and end the account's sessions
    Passwd {
        /// The account's name
        email: String,
    },
    /// Shut an account and end its sessions
    Disable {
        /// The account's name
        email: String,
    },
    /// Open a shut account again
    Enable {
        /// The account's name
        email: String,
    },
    /// List the accounts
    List,
}

/// Prints the completion script.
pub fn print_completions(shell: Shell) {
    clap_complete::generate(shell, &mut CommandLine::command(), "ddm-info-server", &mut io::stdout());
}

/// Refuses what cannot be an account's name.
///
/// # Errors
/// What would be right.
pub fn check_email(email: &str) -> Result<(), &'static str> {
    let shaped = email.split_once('@').is_some_and(|(user, host)| !user.is_empty() && !host.is_empty());
    let clean = email.len() <= 254 && !email.chars().any(|c| c.is_control() || c.is_whitespace());
    if shaped && clean { Ok(()) } else { Err("an account's name looks like user@example.org") }
}

/// Carries out a `user` command on the database, whether or not a server runs on it.
///
/// # Errors
/// What is wrong with the name or the password, and the database's.
pub async fn run(command: UserCommand, config: &Config) -> anyhow::Result<()> {
    let data = &config.place.data;
    private_file::make_folder(data).with_context(|| format!("cannot make the folder {}", data.display()))?;
    let store = Store::open(&config.database()).await?;
    let outcome = apply(command, &store).await;
    store.close().await;
    outcome
}

async fn apply(command: UserCommand, store: &Store) -> anyhow::Result<()> {
    match command {
        UserCommand::Add { email, role } => {
            add(store, &email, role, read_password(&email)?).await?;
            println!("{email} may log in now, as {}.", role.as_str());
        }
        UserCommand::Passwd { email } => {
            let hash = passwords::hash(read_password(&email)?).await?;
            let mut write = store.write().await?;
            ensure!(accounts::set_password(&mut write, &email, &hash).await?, "there is no account {email}");
            write.commit().await?;
            println!("The password of {email} is changed; its sessions are ended.");
        }
        UserCommand::Disable { email } => set_disabled(store, &email, true).await?,
        UserCommand::Enable { email } => set_disabled(store, &email, false).await?,
        UserCommand::List => {
            for account in store.accounts().await? {
                let state = if account.disabled { "disabled" } else { "open" };
                println!("{:<10} {:<9} {}", account.role.as_str(), state, account.email);
            }
        }
    }
    Ok(())
}

/// Makes an account.
///
/// # Errors
/// What is wrong with the name or the password, or that the name is taken.
pub async fn add(store: &Store, email: &str, role: Role, password: SecretString) -> anyhow::Result<()> {
    check_email(email).map_err(anyhow::Error::msg)?;
    passwords::check(&password).map_err(anyhow::Error::msg)?;
    let hash = passwords::hash(password).await?;
    let mut write = store.write().await?;
    if !accounts::add_user(&mut write, email, &hash, role, Timestamp::now()).await? {
        bail!("there is an account {email} already; change it with 'user passwd', 'user disable' or 'user enable'");
    }
    Ok(write.commit().await?)
}

async fn set_disabled(store: &Store, email: &str, disabled: bool) -> anyhow::Result<()> {
    let mut write = store.write().await?;
    ensure!(
        accounts::set_disabled(&mut write, email, disabled, Timestamp::now()).await?,
        "there is no account {email}"
    );
    write.commit().await?;
    println!("{email} {}", if disabled { "is shut; its sessions and tokens are ended." } else { "may log in again." });
    Ok(())
}

/// Asks twice on a terminal; elsewhere the first line of standard input is the password.
fn read_password(email: &str) -> anyhow::Result<SecretString> {
    if io::stdin().is_terminal() {
        let first = SecretString::from(rpassword::prompt_password(format!("New password for {email}: "))?);
        let second = SecretString::from(rpassword::prompt_password("Once more: ")?);
        ensure!(first.expose_secret() == second.expose_secret(), "the two passwords differ");
        return Ok(first);
    }
    let mut text = String::new();
    io::stdin().take(64 * 1024).read_to_string(&mut text).context("cannot read the password from standard input")?;
    let line = text.lines().next().unwrap_or_default();
    ensure!(!line.is_empty(), "no password came on standard input");
    Ok(line.to_owned().into())
}
