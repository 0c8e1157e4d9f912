//! `user`: accounts, which are made on the machine that keeps them.

use std::io::{self, IsTerminal as _, Read as _};

use anyhow::{Context as _, bail, ensure};
use clap::Subcommand;
use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;
use wire::account::Role;

use crate::{
    accounts::{
        account::AccountChange,
        audit::{AuditEntry, AuditKind},
        email::check_email,
        passwords,
        store::{self, audit},
    },
    config::Config,
    db::Database,
    tokens::revocation::{AccountChanged, change_account},
};

/// Commands on accounts.
#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// Add an account; asks for the password, or reads it from standard input
    Add {
        /// E-mail of the account
        email: String,
        /// Role of the account
        #[arg(long, value_parser = lifecycle::settings::role(), default_value_t = Role::Reader)]
        role: Role,
    },
    /// Change the password of an account and end its sessions
    Passwd {
        /// E-mail of the account
        email: String,
    },
    /// Disable an account and end its sessions
    Disable {
        /// E-mail of the account
        email: String,
    },
    /// Enable a disabled account again
    Enable {
        /// E-mail of the account
        email: String,
    },
    /// Change the role of an account
    Role {
        /// E-mail of the account
        email: String,
        /// Role of the account
        #[arg(value_parser = lifecycle::settings::role())]
        role: Role,
    },
    /// List the accounts
    List,
}

/// Carries out a `user` command on the database, whether or not a server runs on it.
///
/// # Errors
/// A folder on which no server ever worked, except for `add`; a name or a password that is not allowed, and the database's.
pub async fn run(command: UserCommand, config: &Config) -> anyhow::Result<()> {
    // The first account may be older than the first start.
    let database = if matches!(command, UserCommand::Add { .. }) {
        config.prepare_data_folder(config.storage.init)?;
        let database = config.database();
        if !database.exists() {
            println!("Making a new catalogue: {}", database.display());
        }
        database
    } else {
        config.existing_database()?
    };
    let db = Database::open(&database).await?;
    let outcome = apply(command, &db).await;
    db.close().await;
    outcome
}

async fn apply(command: UserCommand, db: &Database) -> anyhow::Result<()> {
    match command {
        UserCommand::Add { email, role } => {
            add(db, &email, role, read_password(&email)?).await?;
            println!("{email} may log in now, as {role}.");
        }
        UserCommand::Passwd { email } => {
            let password = read_password(&email)?;
            passwords::check(&password).map_err(anyhow::Error::msg)?;
            let password_hash = Some(passwords::hash(&password)?);
            change(db, &email, AccountChange { password_hash, ..AccountChange::default() }).await?;
            println!("The password of {email} is changed; its sessions and tokens are ended.");
        }
        UserCommand::Disable { email } => {
            change(db, &email, AccountChange { disabled: Some(true), ..AccountChange::default() }).await?;
            println!("{email} is shut; its sessions and tokens are ended.");
        }
        UserCommand::Enable { email } => {
            change(db, &email, AccountChange { disabled: Some(false), ..AccountChange::default() }).await?;
            println!("{email} may log in again.");
        }
        UserCommand::Role { email, role } => {
            change(db, &email, AccountChange { role: Some(role), ..AccountChange::default() }).await?;
            println!("{email} is {role} now.");
        }
        UserCommand::List => {
            for account in db.accounts(0, u32::MAX).await? {
                let state = if account.disabled { "disabled" } else { "open" };
                println!("{:<10} {state:<9} {}", account.role, account.email);
            }
        }
    }
    Ok(())
}

/// Makes an account.
///
/// # Errors
/// A name or a password that is not allowed, or a name that is taken.
pub async fn add(db: &Database, email: &str, role: Role, password: SecretString) -> anyhow::Result<()> {
    check_email(email).map_err(anyhow::Error::msg)?;
    passwords::check(&password).map_err(anyhow::Error::msg)?;
    let (hash, now) = (passwords::hash(&password)?, Timestamp::now());
    let mut write = db.write().await?;
    if !store::add_user(&mut write, email, &hash, role, now).await? {
        bail!(
            "there is an account {email} already; change it with 'user passwd', 'user role', 'user disable' or 'user enable'"
        );
    }
    let entry = AuditEntry::new(AuditKind::UserAdded).about(email).with(json!({ "role": role }));
    audit::record(&mut write, &[entry], now).await?;
    Ok(write.commit().await?)
}

async fn change(db: &Database, email: &str, change: AccountChange) -> anyhow::Result<()> {
    let (mut write, now) = (db.write().await?, Timestamp::now());
    match change_account(&mut write, email, &change, now).await? {
        AccountChanged::Unknown => bail!("there is no account {email}"),
        AccountChanged::LastAdmin => bail!("{email} is the last open admin account: make another admin first"),
        AccountChanged::Done { .. } => {}
    }
    let AccountChange { disabled, role, password_hash } = change;
    let detail = json!({ "disabled": disabled, "role": role, "password": password_hash.is_some() });
    audit::record(&mut write, &[AuditEntry::new(AuditKind::UserChanged).about(email).with(detail)], now).await?;
    Ok(write.commit().await?)
}

/// Reads a new password: asks twice on a terminal, and takes the first line of standard input elsewhere.
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
