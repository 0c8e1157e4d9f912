use std::{net::IpAddr, sync::Arc};

use axum::{extract::State as Shared, http::StatusCode};
use http_front::{
    extract::Json,
    openapi::{TooManyRequests, Unauthorized},
};
use jiff::Timestamp;
use wire::{
    catalogue::{IssuedSession, LoginRequest},
    token::{Token, TokenKind},
};

use crate::{
    accounts::{
        self,
        account::{Credentials, NewSession},
        audit::{AuditEntry, AuditKind},
        passwords,
        store::audit,
    },
    error::{Error, Result, login_throttled},
    http::client_ip::ClientIp,
    state::State,
};

/// `POST /v1/sessions`: exchanges e-mail and password for a token.
///
/// An unknown account, a shut account and a wrong password get the same answer after the same time.
#[utoipa::path(
    post,
    path = "/v1/sessions",
    tag = "Accounts",
    request_body = LoginRequest, security(()),
    responses((status = 201, description = "Logged in", body = IssuedSession), Unauthorized, TooManyRequests)
)]
pub(crate) async fn create_session(
    Shared(state): Shared<Arc<State>>,
    ClientIp(address): ClientIp,
    Json(login): Json<LoginRequest>,
) -> Result<(StatusCode, axum::Json<IssuedSession>)> {
    let known = state.db.credentials(&login.email).await?;
    let right = is_right(&state, known.as_ref(), &login, address).await?;
    let Some(known) = known.filter(|_| right) else {
        return Err(Error::WrongPassword);
    };
    let (token, now) = (Token::generate(TokenKind::Session), Timestamp::now());
    let expires_at = now.checked_add(state.config.access.session_lifetime)?;
    let (token_hash, user_id, zone) = (token.hash(), known.user_id, login.zone.as_ref());
    let mut write = state.db.write().await?;
    accounts::store::add_session(&mut write, &NewSession { token_hash, user_id, expires_at, address, zone }, now)
        .await?;
    audit::record(&mut write, &[AuditEntry::new(AuditKind::Login).by(user_id, address)], now).await?;
    write.commit().await?;
    tracing::info!(user = user_id, %expires_at, "Account {user_id} logged in");
    Ok((StatusCode::CREATED, axum::Json(IssuedSession { token, expires_at })))
}

/// Returns true if the password is that of an open account; refuses to check it after too many failures.
async fn is_right(
    state: &State,
    known: Option<&Credentials>,
    login: &LoginRequest,
    address: Option<IpAddr>,
) -> Result<bool> {
    let user = known.map(|known| known.user_id);
    // A connection that is gone already counts as one address.
    let from = address.unwrap_or(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED));
    let attempt = state.login_limiter.attempt(&login.email, from).map_err(|wait| {
        state.login_failures.count(AuditKind::LoginThrottled, user, address);
        login_throttled(wait)
    })?;
    // Argon2 reads all of it; what no account can have is not worth that.
    if passwords::check(&login.password).is_err() {
        state.login_failures.count(AuditKind::LoginFailed, user, address);
        return Ok(false);
    }
    let stored = known.filter(|known| !known.disabled).map(|known| known.password_hash.clone());
    match state.passwords.verify(login.password.clone(), stored).await {
        Err(passwords::Overloaded) => {
            attempt.undo();
            Err(Error::Busy { status: 429, retry_after: 5, detail: "too many log-ins at once" })
        }
        Ok(right) => {
            let right = right?;
            if right {
                attempt.succeeded();
            } else {
                state.login_failures.count(AuditKind::LoginFailed, user, address);
            }
            Ok(right)
        }
    }
}
