//! Lists, adds and changes accounts, for admins.

use info_client::{AccountChange, InfoError};
use wire::problem::ProblemKind;

use super::login::read_new_password;
use crate::{
    cli::{Users, UsersCommand},
    context::Context,
    exit::Exit,
    output::{print, print_json},
};

/// Runs `users`.
///
/// # Errors
/// When the info-server refuses it.
pub(super) async fn run(context: &Context, users: &Users) -> anyhow::Result<Exit> {
    match users.command.clone().unwrap_or(UsersCommand::List) {
        UsersCommand::List => list(context).await,
        UsersCommand::Add { email, role } => {
            let Some(password) = read_new_password(email.clone()).await? else { return Ok(Exit::Interrupted) };
            context.info_server()?.add_user(&email, role, &password).await.map_err(|error| explain(&email, error))?;
            done(context, "user-added", &email, &format!("Added {email} as {role}."));
            Ok(Exit::Done)
        }
        UsersCommand::Disable { email, undo } => {
            let change = AccountChange { disabled: Some(!undo), ..AccountChange::default() };
            let said = if undo { "may log in again" } else { "cannot log in any more; its sessions ended" };
            self::change(context, &email, &change, said).await
        }
        UsersCommand::Passwd { email } => {
            let Some(password) = read_new_password(email.clone()).await? else { return Ok(Exit::Interrupted) };
            let change = AccountChange { password: Some(password), ..AccountChange::default() };
            self::change(context, &email, &change, "has a new password; its sessions ended").await
        }
        UsersCommand::Role { email, role } => {
            let change = AccountChange { role: Some(role), ..AccountChange::default() };
            self::change(context, &email, &change, &format!("has the role {role} now")).await
        }
    }
}

async fn list(context: &Context) -> anyhow::Result<Exit> {
    let info = context.info_server()?;
    let (mut cursor, mut is_first) = (None::<String>, true);
    loop {
        let page = info.users(cursor.as_deref()).await?;
        for account in &page.users {
            if context.common.json {
                print_json(account);
                continue;
            }
            if std::mem::take(&mut is_first) {
                print(&format!("{:<5}  {:<9}  {:<8}  {:<20}  E-MAIL", "ID", "ROLE", "STATE", "SINCE"));
            }
            let state = if account.disabled { "disabled" } else { "open" };
            print(&format!(
                "{:<5}  {:<9}  {state:<8}  {:<20.0}  {}",
                account.id, account.role, account.created_at, account.email
            ));
        }
        cursor = page.next_cursor;
        if cursor.is_none() || page.users.is_empty() {
            return Ok(Exit::Done);
        }
    }
}

async fn change(context: &Context, email: &str, change: &AccountChange, said: &str) -> anyhow::Result<Exit> {
    context.info_server()?.change_user(email, change).await.map_err(|error| explain(email, error))?;
    done(context, "user-changed", email, &format!("{email} {said}."));
    Ok(Exit::Done)
}

/// Explains a 404, no account has this name, and a 409, one has it already.
fn explain(email: &str, error: InfoError) -> anyhow::Error {
    match error.status() {
        Some(404) => anyhow::anyhow!("there is no account {email}; `ddm-client users list` shows them all"),
        Some(409) if error.problem().is_some_and(|problem| problem.is(ProblemKind::Taken)) => anyhow::anyhow!(
            "there is an account {email} already; change it with `ddm-client users passwd`, `users role` or `users disable`"
        ),
        _ => error.into(),
    }
}

fn done(context: &Context, event: &str, email: &str, said: &str) {
    if context.common.json {
        print_json(&serde_json::json!({ "event": event, "email": email }));
    } else {
        print(said);
    }
}
