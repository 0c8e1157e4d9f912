use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use anyhow::{Context as _, ensure};
use secrecy::SecretString;

use super::{Context, emit, say};
use crate::{
    session::{Login, Logins},
    text,
};

/// The longest line that is read when there is no terminal, in bytes.
const MAX_LINE: u64 = 4096;

pub(super) async fn run(context: &Context, email: Option<String>) -> anyhow::Result<()> {
    let (email, password) = tokio::task::spawn_blocking(move || credentials(email)).await??;
    // Before the log-in, so that a file that cannot be read ends no session that nobody keeps.
    let mut logins = Logins::open(&context.common)?;
    let session = context.info_server()?.log_in(&email, &password, context.common.zone.as_ref()).await?;
    let expires_at = session.expires_at;
    logins.keep(&context.common.info, Login { email: email.clone(), session })?;
    if context.common.json {
        emit(&serde_json::json!({ "event": "logged-in", "email": email, "expires_at": expires_at }));
    } else {
        let until = text::moment(expires_at);
        say(&format!("Logged in as {email} until {until}; kept in {}.", logins.path().display()));
    }
    Ok(())
}

/// Asks on a terminal; elsewhere reads the password (after the name, if that is missing) from standard input.
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
    ensure!(!email.is_empty() && !password.is_empty(), "an e-mail and a password are needed");
    Ok((email, password.into()))
}

fn line() -> anyhow::Result<String> {
    let mut text = String::new();
    io::Read::take(io::stdin().lock(), MAX_LINE).read_line(&mut text).context("cannot read standard input")?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}
