use std::{
    fs::File,
    io::{self, BufRead as _, IsTerminal as _, Write as _},
};

use anyhow::{Context as _, ensure};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use secrecy::SecretString;

use super::known_zones;
use crate::{
    context::Context,
    exit::Exit,
    output::{print, print_json, status},
    session::{Login, Logins},
    text,
};

/// Longest line that is read from a standard input that is no terminal, in bytes.
const MAX_LINE_LEN: u64 = 4096;

pub(super) async fn run(context: &Context, email: Option<String>) -> anyhow::Result<Exit> {
    let (email, password) = match read_credentials(email).await {
        // Ctrl-C: it is an ordinary key while the terminal does not echo.
        Err(error) if is_interruption(&error) => return Ok(Exit::Interrupted),
        credentials => credentials?,
    };
    // Opened and checked before the login: an unusable file must not leave a session that nothing stores.
    let mut logins = Logins::open(&context.common)?;
    logins.check_place()?;
    let session = context.info_server()?.log_in(&email, &password, context.common.zone.as_ref()).await?;
    let expires_at = session.expires_at;
    logins.store(&context.common.info, Login { email: email.clone(), session })?;
    if context.common.json {
        print_json(&serde_json::json!({ "event": "logged-in", "email": email, "expires_at": expires_at }));
    } else {
        let until = text::timestamp(expires_at);
        print(&format!("Logged in as {email} until {until}. Session stored in {}", logins.path().display()));
    }
    let zones: Vec<_> = context.common.zone.iter().cloned().collect();
    known_zones::warn_of_unknown(context, &context.info_server()?, &zones).await;
    Ok(Exit::Done)
}

fn is_interruption(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::Interrupted)
}

/// Reads the credentials on a thread of its own. The read may block for ever; dropping this future leaves it behind.
async fn read_credentials(email: Option<String>) -> anyhow::Result<(String, SecretString)> {
    let mut guard = TerminalGuard(terminal());
    let credentials = tokio::task::spawn_blocking(move || credentials(email)).await;
    guard.0 = None;
    credentials?
}

/// Returns the terminal with its settings before echo is switched off. None when standard input is no terminal.
fn terminal() -> Option<(File, Termios)> {
    let terminal = File::open("/dev/tty").ok().filter(|_| io::stdin().is_terminal())?;
    let settings = tcgetattr(&terminal).ok()?;
    Some((terminal, settings))
}

/// Guard that restores the terminal when a question is cancelled.
struct TerminalGuard(Option<(File, Termios)>);

impl Drop for TerminalGuard {
    fn drop(&mut self) {
        if let Some((terminal, settings)) = &self.0 {
            // A closed terminal needs no restoring.
            let _ = tcsetattr(terminal, OptionalActions::Now, settings);
            status("");
        }
    }
}

/// Prompts on a terminal. Without one, reads the password, preceded by the e-mail if it is missing, from standard input.
fn credentials(email: Option<String>) -> anyhow::Result<(String, SecretString)> {
    let terminal = io::stdin().is_terminal();
    let email = match email {
        Some(email) => email,
        None => {
            if terminal {
                write!(io::stderr(), "E-mail: ")?;
            }
            line()?
        }
    };
    let password = if terminal { rpassword::prompt_password(format!("Password for {email}: "))? } else { line()? };
    ensure!(!email.is_empty() && !password.is_empty(), "e-mail and password must not be empty");
    Ok((email, password.into()))
}

/// Reads a new password: twice on a terminal, else one line of standard input. None when interrupted.
pub(super) async fn read_new_password(email: String) -> anyhow::Result<Option<SecretString>> {
    let mut guard = TerminalGuard(terminal());
    let read = tokio::task::spawn_blocking(move || new_password(&email)).await;
    guard.0 = None;
    match read? {
        Err(error) if is_interruption(&error) => Ok(None),
        password => password.map(Some),
    }
}

fn new_password(email: &str) -> anyhow::Result<SecretString> {
    let password = if io::stdin().is_terminal() {
        let password = rpassword::prompt_password(format!("New password for {email}: "))?;
        let again = rpassword::prompt_password("The same again: ")?;
        ensure!(password == again, "the two passwords differ; try again");
        password
    } else {
        line()?
    };
    ensure!(!password.is_empty(), "the password must not be empty");
    Ok(password.into())
}

fn line() -> anyhow::Result<String> {
    let mut text = String::new();
    io::Read::take(io::stdin().lock(), MAX_LINE_LEN).read_line(&mut text).context("cannot read standard input")?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}
