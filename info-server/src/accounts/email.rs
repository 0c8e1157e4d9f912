//! Names of accounts.

/// Refuses what cannot be an account's name.
///
/// # Errors
/// The form that names have.
pub fn check_email(email: &str) -> Result<(), &'static str> {
    let shaped = email.split_once('@').is_some_and(|(user, host)| !user.is_empty() && !host.is_empty());
    let clean = email.len() <= 254 && !email.chars().any(|c| c.is_control() || c.is_whitespace());
    if shaped && clean { Ok(()) } else { Err("an account's name looks like user@example.org") }
}
