//! Passwords: argon2id, at most two at once, and the same work for accounts that do not exist.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, anyhow};
use argon2::{
    Argon2,
    password_hash::{PasswordHasher as _, PasswordVerifier as _, phc::PasswordHash},
};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The shortest password that is taken, in characters (NIST SP 800-63B §5.1.1.2).
pub const MIN_LEN: usize = 8;
/// The longest, in bytes: long enough for anyone, short enough to hash.
pub const MAX_LEN: usize = 1024;

/// Each hash takes 19 MiB and tens of milliseconds of a core; more at once would starve everything else.
const AT_ONCE: usize = 2;
/// How long a log-in waits for its turn.
const TURN: Duration = Duration::from_secs(5);

/// Checks passwords, a few at a time.
#[derive(Debug, Clone)]
pub struct Passwords {
    turns: Arc<Semaphore>,
    // Verified against when there is no account, so that the time of an answer does not tell.
    nobody: Arc<str>,
}

/// Too many log-ins at once.
#[derive(Debug)]
pub struct Crowded;

impl Passwords {
    /// Prepares the hash that unknown accounts are checked against.
    ///
    /// # Errors
    /// When there is no randomness to be had.
    pub async fn new() -> anyhow::Result<Self> {
        let random = wire::token::Token::generate(wire::token::Kind::Session).expose().to_owned();
        let nobody = hash(random.into()).await?;
        Ok(Self { turns: Arc::new(Semaphore::new(AT_ONCE)), nobody: nobody.into() })
    }

    /// Hashes a new password, in turn with the checks.
    ///
    /// # Errors
    /// [`Crowded`] when no turn came in time, and when there is no randomness to be had.
    pub async fn hash(&self, password: SecretString) -> Result<anyhow::Result<String>, Crowded> {
        Ok(hash_in_turn(password, Some(self.turn().await?)).await)
    }

    async fn turn(&self) -> Result<OwnedSemaphorePermit, Crowded> {
        let turn = tokio::time::timeout(TURN, self.turns.clone().acquire_owned()).await;
        turn.ok().and_then(Result::ok).ok_or(Crowded)
    }

    /// Whether `password` gives `stored`; with `None`, the same work and false.
    ///
    /// # Errors
    /// [`Crowded`] when no turn came in time, and whatever is wrong with the stored hash.
    pub async fn verify(
        &self,
        password: SecretString,
        stored: Option<String>,
    ) -> Result<anyhow::Result<bool>, Crowded> {
        let turn = self.turn().await?;
        let known = stored.is_some();
        let stored = stored.unwrap_or_else(|| self.nobody.to_string());
        let verified = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let parsed = PasswordHash::new(&stored).map_err(|error| anyhow!("a stored password hash: {error}"))?;
            Ok(Argon2::default().verify_password(password.expose_secret().as_bytes(), &parsed).is_ok())
        })
        .await;
        Ok(verified.context("the password check died").and_then(|verified| verified).map(|right| right && known))
    }
}

/// Hashes a new password.
///
/// # Errors
/// When there is no randomness to be had.
pub async fn hash(password: SecretString) -> anyhow::Result<String> {
    hash_in_turn(password, None).await
}

/// The turn goes with the work: a requester who hangs up does not make room for another while the work goes on.
async fn hash_in_turn(password: SecretString, turn: Option<OwnedSemaphorePermit>) -> anyhow::Result<String> {
    tokio::task::spawn_blocking(move || {
        let _turn = turn;
        Argon2::default()
            .hash_password(password.expose_secret().as_bytes())
            .map(|hash| hash.to_string())
            .map_err(|error| anyhow!("cannot hash the password: {error}"))
    })
    .await?
}

/// Refuses passwords that anyone could guess or that nobody could hash.
///
/// # Errors
/// What would be right.
pub fn check(password: &SecretString) -> Result<(), String> {
    let text = password.expose_secret();
    if text.chars().count() < MIN_LEN {
        return Err(format!("a password has at least {MIN_LEN} characters"));
    }
    if text.len() > MAX_LEN {
        return Err(format!("a password has at most {MAX_LEN} bytes"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_right_password_of_a_real_account_is_right() {
        let passwords = Passwords::new().await.unwrap();
        let stored = hash("correct horse".to_owned().into()).await.unwrap();
        assert!(stored.starts_with("$argon2id$"), "{stored}");
        let verify = |password: &str, stored: Option<String>| passwords.verify(password.to_owned().into(), stored);
        assert!(verify("correct horse", Some(stored.clone())).await.unwrap().unwrap());
        assert!(!verify("wrong horse", Some(stored)).await.unwrap().unwrap());
        assert!(!verify("correct horse", None).await.unwrap().unwrap());
        assert!(verify("x", Some("not a hash".to_owned())).await.unwrap().is_err());
    }
}
