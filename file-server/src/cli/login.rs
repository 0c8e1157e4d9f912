//! Login of a person at the info-server, from settings or at the terminal.

use std::io::{BufRead as _, Write as _};

use anyhow::Context as _;
use info_client::UserClient;
use lifecycle::private_file;
use secrecy::{ExposeSecret as _, SecretString};
use wire::token::{Token, TokenKind};

use crate::config::Login;

/// Returns a session for `login`; prompts for missing parts at the terminal.
///
/// # Errors
/// When the settings hold no usable session, or the info-server refuses the login.
pub(crate) async fn log_in(login: &Login, info: &UserClient) -> anyhow::Result<Token> {
    if let Some(text) = session_text(login)? {
        let token: Token = text.expose_secret().trim().parse().context("the session token cannot be parsed")?;
        anyhow::ensure!(token.kind() == TokenKind::Session, "the given token is not a session token");
        return Ok(token);
    }
    let email = login.email.clone();
    let (email, password) = tokio::task::spawn_blocking(move || prompt(email)).await??;
    Ok(info.log_in(&email, &password, None).await.context("cannot log in")?.token)
}

/// Returns the session token from the settings.
fn session_text(login: &Login) -> anyhow::Result<Option<SecretString>> {
    match (&login.session_token, &login.session_token_file) {
        (Some(token), _) => Ok(Some(token.clone())),
        (None, Some(path)) => {
            let text = private_file::read(path).with_context(|| format!("--session-token-file {}", path.display()))?;
            Ok(Some(text.with_context(|| format!("--session-token-file {} does not exist", path.display()))?.into()))
        }
        (None, None) => Ok(None),
    }
}

/// Prompts at the terminal, on stderr: only ids go to stdout.
fn prompt(email: Option<String>) -> anyhow::Result<(String, SecretString)> {
    let email = match email {
        Some(email) => email,
        None => {
            eprint!("E-mail: ");
            std::io::stderr().flush()?;
            let mut line = String::new();
            std::io::stdin().lock().read_line(&mut line)?;
            line.trim().to_owned()
        }
    };
    let password = rpassword::prompt_password("Password: ")
        .context("there is no terminal for the password prompt: name a session token with --session-token-file")?;
    Ok((email, password.into()))
}
