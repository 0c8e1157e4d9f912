//! The command line: the server itself, and accounts, which are made on the machine that keeps them.

use std::{
    io::{self, IsTerminal as _, Read as _, Write as _},
    path::PathBuf,
};

use anyhow::{Context as _, bail, ensure};
use clap::{CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;
use jiff::Timestamp;
use lifecycle::{private_file, telemetry::Telemetry};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;
use wire::ServerId;

use crate::{
    config::Config,
    passwords,
    store::{
        Store,
        accounts::{self, Change, Changed, Role},
        audit::{self, Deed, Entry, Kind},
    },
};

/// Rows that are read at once.
const PAGE: u32 = 500;

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
    /// Show who did what, newest first
    Audit(AuditShown),
    /// Copy the catalogue into one new file, also while the server runs: whole, checked and synced, or not at all
    Backup {
        /// The file to make; refused when it is there. It holds no secret in clear: keep the join secret where you keep secrets
        path: PathBuf,
    },
    /// Put a backup into the folder of --data, with the server stopped; file servers then begin anew with what it knows
    ///
    /// All sessions and tokens are ended: what was ended after the backup must not come back. Files that were published after it are
    /// unknown: file servers keep their bytes and do not serve them (see 'ddm-file-server unknown').
    Restore {
        /// The backup
        path: PathBuf,
        /// Take the place of a catalogue that is there; it is kept under another name
        #[arg(long)]
        replace: bool,
    },
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
    /// Show which file servers hold files that the catalogue does not know, and which: they are kept and not served until an operator
    /// decides ('ddm-file-server unknown' on the server's machine)
    Unknown(UnknownShown),
    /// Delete the queue of a file server that is gone for good from the broker of --amqp or --amqp-file. Should the server come
    /// back, it makes its queue anew and reads what it missed
    DropQueue {
        /// The server's id
        server: ServerId,
    },
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// What of the audit log is shown.
#[derive(Debug, clap::Args)]
pub struct AuditShown {
    /// At most so many rows
    #[arg(long, default_value_t = 100, value_name = "COUNT")]
    pub limit: u32,
    /// Only rows of this kind
    #[arg(long)]
    pub kind: Option<Kind>,
    /// Print one JSON object a line instead of text
    #[arg(long)]
    pub json: bool,
}

/// What of the unknown files is shown.
#[derive(Debug, clap::Args)]
pub struct UnknownShown {
    /// Only those of this server
    #[arg(long, value_name = "ID")]
    pub server: Option<ServerId>,
    /// Print one JSON object a line instead of text
    #[arg(long)]
    pub json: bool,
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
    /// Give an account another role
    Role {
        /// The account's name
        email: String,
        /// What it may do
        role: Role,
    },
    /// List the accounts
    List,
}

/// Prints the completion script.
pub fn print_completions(shell: Shell) {
    clap_complete::generate(shell, &mut CommandLine::command(), "ddm-info-server", &mut io::stdout());
}

/// Deletes a server's queue.
///
/// # Errors
/// That there is no broker in the settings, and the broker's.
pub async fn drop_queue(server: &ServerId, config: &Config) -> anyhow::Result<()> {
    let url = config.events.broker()?.context("name the broker with --amqp-file or --amqp, before the command")?;
    bus::Amqp::new(url.expose_secret())?.delete_queue(server).await.context("the queue could not be deleted")?;
    println!("The queue of {server} is deleted.");
    Ok(())
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
            let password = read_password(&email)?;
            passwords::check(&password).map_err(anyhow::Error::msg)?;
            let password_hash = Some(passwords::hash(&password)?);
            change(store, &email, Change { password_hash, ..Change::default() }).await?;
            println!("The password of {email} is changed; its sessions and tokens are ended.");
        }
        UserCommand::Disable { email } => {
            change(store, &email, Change { disabled: Some(true), ..Change::default() }).await?;
            println!("{email} is shut; its sessions and tokens are ended.");
        }
        UserCommand::Enable { email } => {
            change(store, &email, Change { disabled: Some(false), ..Change::default() }).await?;
            println!("{email} may log in again.");
        }
        UserCommand::Role { email, role } => {
            change(store, &email, Change { role: Some(role), ..Change::default() }).await?;
            println!("{email} is {} now.", role.as_str());
        }
        UserCommand::List => {
            for account in store.accounts(0, u32::MAX).await? {
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
    let (hash, now) = (passwords::hash(&password)?, Timestamp::now());
    let mut write = store.write().await?;
    if !accounts::add_user(&mut write, email, &hash, role, now).await? {
        bail!(
            "there is an account {email} already; change it with 'user passwd', 'user role', 'user disable' or 'user enable'"
        );
    }
    let deed = Deed::new(Kind::UserAdded).about(email).with(json!({ "role": role }));
    audit::record(&mut write, &[deed], now).await?;
    Ok(write.commit().await?)
}

async fn change(store: &Store, email: &str, change: Change) -> anyhow::Result<()> {
    let (mut write, now) = (store.write().await?, Timestamp::now());
    match accounts::change(&mut write, email, &change, now).await? {
        Changed::Unknown => bail!("there is no account {email}"),
        Changed::LastAdmin => bail!("{email} is the last open admin account: make another admin first"),
        Changed::Done { .. } => {}
    }
    let Change { disabled, role, password_hash } = change;
    let detail = json!({ "disabled": disabled, "role": role, "password": password_hash.is_some() });
    audit::record(&mut write, &[Deed::new(Kind::UserChanged).about(email).with(detail)], now).await?;
    Ok(write.commit().await?)
}

/// Prints the audit log, newest first, and the bare truth of each row with `json`.
///
/// # Errors
/// The database's.
pub async fn print_audit(shown: AuditShown, config: &Config) -> anyhow::Result<()> {
    let store = Store::open(&config.database()).await?;
    let printed = print_pages(&store, &shown).await;
    store.close().await;
    printed
}

async fn print_pages(store: &Store, shown: &AuditShown) -> anyhow::Result<()> {
    let (mut left, mut before) = (shown.limit, None);
    let mut out = io::stdout().lock();
    while left > 0 {
        let page = store.audit(before, left.min(PAGE), shown.kind).await?;
        let Some(last) = page.last() else { break };
        before = Some(last.id);
        left = left.saturating_sub(u32::try_from(page.len())?);
        for entry in &page {
            let line = if shown.json { serde_json::to_string(entry)? } else { in_words(entry) };
            match writeln!(out, "{line}") {
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                written => written?,
            }
        }
    }
    Ok(())
}

/// Prints the files that servers hold and the catalogue does not know.
///
/// # Errors
/// The database's.
pub async fn print_unknown(shown: UnknownShown, config: &Config) -> anyhow::Result<()> {
    let store = Store::open(&config.database()).await?;
    let printed = print_unknown_pages(&store, &shown).await;
    store.close().await;
    printed
}

async fn print_unknown_pages(store: &Store, shown: &UnknownShown) -> anyhow::Result<()> {
    let mut after = None;
    let mut out = io::stdout().lock();
    loop {
        let page = store.unknown(shown.server.as_ref(), after.as_ref(), PAGE).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = Some((last.server.clone(), last.file));
        for unknown in &page {
            let line = if shown.json {
                serde_json::to_string(unknown)?
            } else {
                format!("{} {} since {}", unknown.server, unknown.file, unknown.since)
            };
            match writeln!(out, "{line}") {
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                written => written?,
            }
        }
    }
}

fn in_words(entry: &Entry) -> String {
    let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let detail = entry.detail.as_ref().map(ToString::to_string).unwrap_or_default();
    let (user, address, subject) = (or_dash(&entry.user), or_dash(&entry.address), or_dash(&entry.subject));
    let times = if entry.count > 1 { format!(" x{}", entry.count) } else { String::new() };
    // Names were checked when they were taken, but a terminal must not be spoken to by any of them.
    let line = format!("{} {}{times} {user} {address} {subject} {detail}", entry.at, entry.kind);
    line.chars().filter(|c| !c.is_control()).collect()
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
