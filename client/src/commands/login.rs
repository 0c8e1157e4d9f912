use std::{
    fs::File,
    io::{self, BufRead as _, IsTerminal as _, Write as _},
};

use anyhow::{Context as _, ensure};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use secrecy::SecretString;

use super::{Context, Exit, emit, say, tell};
use crate::{
    session::{Login, Logins},
    text,
};

/// The longest line that is read when there is no terminal, in bytes.
const MAX_LINE: u64 = 4096;

pub(super) async fn run(context: &Context, email: Option<String>) -> anyhow::Result<Exit> {
    let (email, password) = match asked(email).await {
        // Ctrl-C, which is a key like any other while the terminal shows none.
        Err(error) if was_interrupted(&error) => return Ok(Exit::Interrupted),
        asked => asked?,
    };
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
    Ok(Exit::Done)
}

fn was_interrupted(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::Interrupted)
}

/// Reads on a thread that nobody waits for once this is dropped: it may read for ever.
async fn asked(email: Option<String>) -> anyhow::Result<(String, SecretString)> {
    let mut order = Order(terminal());
    let asked = tokio::task::spawn_blocking(move || credentials(email)).await;
    order.0 = None;
    asked?
}

/// The terminal, and how it is before it is told to show no keys; none where the answers come from elsewhere.
fn terminal() -> Option<(File, Termios)> {
    let terminal = File::open("/dev/tty").ok().filter(|_| io::stdin().is_terminal())?;
    let was = tcgetattr(&terminal).ok()?;
    Some((terminal, was))
}

/// Puts the terminal in order again when a question is left without an answer.
struct Order(Option<(File, Termios)>);

impl Drop for Order {
    fn drop(&mut self) {
        if let Some((terminal, was)) = &self.0 {
            // One that is gone needs no order.
            let _ = tcsetattr(terminal, OptionalActions::Now, was);
            tell("");
        }
    }
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
