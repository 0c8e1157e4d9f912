use std::sync::Arc;

use axum::{extract::State as Shared, http::StatusCode};
use jiff::Timestamp;
use lifecycle::{
    api::{Conflict, TooMany},
    http::{Json, Path},
};
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::json;
use utoipa::ToSchema;

use crate::{
    app::State,
    caller::Admin,
    error::{Error, Result, conflict, invalid},
    passwords,
    peer::Client,
    store::{
        accounts::{self, Change, Changed, Role},
        audit::{self, Deed, Kind},
    },
};

/// What is to be different; what is absent stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct UserChange {
    /// Whether it is shut.
    disabled: Option<bool>,
    /// What it may do.
    role: Option<Role>,
    /// Its new password; its sessions end.
    #[schema(value_type = Option<String>, format = Password, min_length = 8, max_length = 1024)]
    password: Option<SecretString>,
}

/// `PATCH /v1/users/{id or e-mail}`: what `ddm-info-server user` does on the terminal.
#[utoipa::path(
    patch,
    path = "/v1/users/{user}",
    tag = "Accounts",
    params(("user" = String, Path, description = "Its number or its name")), request_body = UserChange, security(("session" = [])),
    responses((status = 204, description = "Changed"), Conflict, TooMany)
)]
pub(super) async fn change_user(
    Shared(state): Shared<Arc<State>>,
    Client(address): Client,
    Admin(admin): Admin,
    Path(name): Path<String>,
    Json(wanted): Json<UserChange>,
) -> Result<StatusCode> {
    let email = match name.parse::<i64>() {
        Ok(id) => state.store.email(id).await?.ok_or(Error::NotFound)?,
        Err(_) => name,
    };
    let detail = json!({ "disabled": wanted.disabled, "role": wanted.role, "password": wanted.password.is_some() });
    let password_hash = match wanted.password {
        Some(password) => Some(hashed(&state, password).await?),
        None => None,
    };
    let (change, now) = (Change { disabled: wanted.disabled, role: wanted.role, password_hash }, Timestamp::now());
    let mut write = state.store.write().await?;
    match accounts::change(&mut write, &email, &change, now).await? {
        Changed::Unknown => Err(Error::NotFound),
        Changed::LastAdmin => {
            let problem = conflict("last-admin", "This is the last open admin account");
            Err(Error::Refused(problem.detail("make another admin first")))
        }
        Changed::Done { newest } => {
            let deed = Deed::new(Kind::UserChanged).by(admin.id, address).about(&email).with(detail);
            audit::record(&mut write, &[deed], now).await?;
            write.commit().await?;
            newest.into_iter().for_each(|newest| state.log.committed(newest));
            Ok(StatusCode::NO_CONTENT)
        }
    }
}

/// Hashes a new password, if it can be one.
pub(super) async fn hashed(state: &State, password: SecretString) -> Result<String> {
    passwords::check(&password).map_err(invalid)?;
    let crowded = Error::Busy { status: 429, retry_after: 5, detail: "too many passwords at once" };
    Ok(state.passwords.hash(password).await.map_err(|_| crowded)??)
}
