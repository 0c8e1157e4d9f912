use std::sync::Arc;

use axum::{
    extract::{FromRequestParts as _, State as Shared},
    http::{StatusCode, request::Parts},
};
use jiff::Timestamp;
use lifecycle::http::Json;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::{
    app::State,
    caller::Reader,
    command,
    error::{Error, Result, conflict, invalid},
    passwords,
    store::accounts::{self, Role},
};

/// Who is to be let in.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewUser {
    email: String,
    password: SecretString,
    role: Option<Role>,
}

#[derive(Serialize)]
pub(super) struct CreatedUser {
    email: String,
    role: Role,
}

/// `POST /v1/users`: an admin makes any account; anyone makes a reader's where registration is open.
pub(super) async fn create_user(
    Shared(state): Shared<Arc<State>>,
    mut parts: Parts,
    Json(new): Json<NewUser>,
) -> Result<(StatusCode, axum::Json<CreatedUser>)> {
    let role = new.role.unwrap_or(Role::Reader);
    if !(state.config.access.open_registration && role == Role::Reader) {
        let caller = Reader::from_request_parts(&mut parts, &state).await?;
        if caller.user.role < Role::Admin {
            return Err(Error::Forbidden("only an admin makes accounts here"));
        }
    }
    command::check_email(&new.email).map_err(invalid)?;
    passwords::check(&new.password).map_err(invalid)?;
    let hash = state.passwords.hash(new.password).await.map_err(|_| Error::Busy {
        status: 429,
        retry_after: 5,
        detail: "too many passwords at once",
    })??;
    let mut write = state.store.write().await?;
    if !accounts::add_user(&mut write, &new.email, &hash, role, Timestamp::now()).await? {
        return Err(Error::Refused(conflict("taken", "There is an account of this name")));
    }
    write.commit().await?;
    Ok((StatusCode::CREATED, axum::Json(CreatedUser { email: new.email, role })))
}
