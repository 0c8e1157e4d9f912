use std::sync::Arc;

use axum::{extract::State as Shared, http::StatusCode};
use jiff::Timestamp;
use lifecycle::http::Json;
use wire::{
    catalog::{Login, Session},
    token::{Kind, Token},
};

use crate::{
    app::State,
    error::{Error, Result},
    passwords,
    store::accounts,
};

/// `POST /v1/sessions`: e-mail and password for a token.
///
/// Unknown account, shut account and wrong password take the same time and say the same.
pub(super) async fn create_session(
    Shared(state): Shared<Arc<State>>,
    Json(login): Json<Login>,
) -> Result<(StatusCode, axum::Json<Session>)> {
    let wrong = Error::Unauthenticated("e-mail or password is wrong");
    let known = state.store.credentials(&login.email).await?;
    // Argon2 reads all of it; what no account can have is not worth that.
    if passwords::check(&login.password).is_err() {
        return Err(wrong);
    }
    let stored = known.as_ref().filter(|known| !known.disabled).map(|known| known.password_hash.clone());
    let right = state.passwords.verify(login.password, stored).await.map_err(|_| Error::Busy {
        status: 429,
        retry_after: 5,
        detail: "too many log-ins at once",
    })??;
    let Some(known) = known.filter(|_| right) else { return Err(wrong) };

    let (token, now) = (Token::generate(Kind::Session), Timestamp::now());
    let expires_at = now.checked_add(state.config.access.session_lifetime)?;
    let mut write = state.store.write().await?;
    accounts::add_session(&mut write, token.hash(), known.user_id, now, expires_at).await?;
    write.commit().await?;
    tracing::info!(user = known.user_id, %expires_at, "logged in");
    Ok((StatusCode::CREATED, axum::Json(Session { token, expires_at })))
}
