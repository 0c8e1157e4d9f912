use std::{net::IpAddr, sync::Arc, time::Duration};

use axum::{extract::State as Shared, http::StatusCode};
use jiff::Timestamp;
use lifecycle::{
    api::{TooMany, Unauthenticated},
    http::Json,
};
use wire::{
    Problem,
    catalog::{Login, Session},
    token::{Kind as TokenKind, Token},
};

use crate::{
    app::State,
    error::{Error, Result},
    passwords,
    peer::Client,
    store::{
        accounts::{self, Credentials, NewSession},
        audit::{self, Deed, Kind},
    },
};

/// `POST /v1/sessions`: e-mail and password for a token.
///
/// Unknown account, shut account and wrong password take the same time and say the same.
#[utoipa::path(
    post,
    path = "/v1/sessions",
    tag = "Accounts",
    request_body = Login, security(()),
    responses((status = 201, description = "Logged in", body = Session), Unauthenticated, TooMany)
)]
pub(super) async fn create_session(
    Shared(state): Shared<Arc<State>>,
    Client(address): Client,
    Json(login): Json<Login>,
) -> Result<(StatusCode, axum::Json<Session>)> {
    let known = state.store.credentials(&login.email).await?;
    let right = is_right(&state, known.as_ref(), &login, address).await?;
    let Some(known) = known.filter(|_| right) else {
        return Err(Error::WrongPassword);
    };
    let (token, now) = (Token::generate(TokenKind::Session), Timestamp::now());
    let expires_at = now.checked_add(state.config.access.session_lifetime)?;
    let (token_hash, user_id, zone) = (token.hash(), known.user_id, login.zone.as_ref());
    let mut write = state.store.write().await?;
    accounts::add_session(&mut write, &NewSession { token_hash, user_id, expires_at, address, zone }, now).await?;
    audit::record(&mut write, &[Deed::new(Kind::Login).by(user_id, address)], now).await?;
    write.commit().await?;
    tracing::info!(user = user_id, %expires_at, "logged in");
    Ok((StatusCode::CREATED, axum::Json(Session { token, expires_at })))
}

/// Whether the password is that of an open account, if it may be asked at all.
async fn is_right(state: &State, known: Option<&Credentials>, login: &Login, address: Option<IpAddr>) -> Result<bool> {
    let user = known.map(|known| known.user_id);
    // A connection that is gone already counts as one address.
    let from = address.unwrap_or(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED));
    let attempt = state.throttle.attempt(&login.email, from).map_err(|wait| {
        state.tally.count(Kind::LoginThrottled, user, address);
        throttled(wait)
    })?;
    // Argon2 reads all of it; what no account can have is not worth that.
    if passwords::check(&login.password).is_err() {
        state.tally.count(Kind::LoginFailed, user, address);
        return Ok(false);
    }
    let stored = known.filter(|known| !known.disabled).map(|known| known.password_hash.clone());
    match state.passwords.verify(login.password.clone(), stored).await {
        Err(passwords::Crowded) => {
            attempt.undo();
            Err(Error::Busy { status: 429, retry_after: 5, detail: "too many log-ins at once" })
        }
        Ok(right) => {
            let right = right?;
            if right {
                attempt.succeeded();
            } else {
                state.tally.count(Kind::LoginFailed, user, address);
            }
            Ok(right)
        }
    }
}

pub(super) fn throttled(wait: Duration) -> Error {
    let seconds = u32::try_from(wait.as_secs()).unwrap_or(u32::MAX).saturating_add(1);
    let detail = format!("too many log-ins of this account or from this address failed: try again in {seconds} s");
    let problem = Problem::new(429, "throttled", "Too many failed log-ins").detail(detail);
    Error::Throttled { problem, retry_after: seconds }
}
