//! New passwords.

use secrecy::SecretString;

use crate::{
    accounts::passwords,
    error::{Error, Result, invalid},
    state::State,
};

/// Hashes a new password, if it can be one.
pub(crate) async fn hash_new_password(state: &State, password: SecretString) -> Result<String> {
    passwords::check(&password).map_err(invalid)?;
    let overloaded = Error::Busy { status: 429, retry_after: 5, detail: "too many passwords at once" };
    Ok(state.passwords.hash(password).await.map_err(|_| overloaded)??)
}
