use std::sync::Arc;

use axum::{extract::State as Shared, http::StatusCode};
use http_front::{
    extract::{Json, Path},
    openapi::{Conflict, TooManyRequests},
};
use jiff::Timestamp;
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::json;
use utoipa::ToSchema;

use wire::{ProblemKind, account::Role};

use crate::{
    accounts::{
        account::AccountChange,
        audit::{AuditEntry, AuditKind},
        store::audit,
    },
    error::{Error, Result, conflict},
    http::{accounts::new_password::hash_new_password, auth::Admin, client_ip::ClientIp},
    state::State,
    tokens::revocation::{AccountChanged, change_account},
};

/// Changes to an account; what is absent stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UserChange {
    /// `true` shuts it, `false` opens it again.
    disabled: Option<bool>,
    /// Its role.
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
    responses((status = 204, description = "Changed"), Conflict, TooManyRequests)
)]
pub(crate) async fn change_user(
    Shared(state): Shared<Arc<State>>,
    ClientIp(address): ClientIp,
    Admin(admin): Admin,
    Path(name): Path<String>,
    Json(wanted): Json<UserChange>,
) -> Result<StatusCode> {
    let email = match name.parse::<i64>() {
        Ok(id) => state.db.email(id).await?.ok_or(Error::NotFound)?,
        Err(_) => name,
    };
    let detail = json!({ "disabled": wanted.disabled, "role": wanted.role, "password": wanted.password.is_some() });
    let password_hash = match wanted.password {
        Some(password) => Some(hash_new_password(&state, password).await?),
        None => None,
    };
    let (change, now) =
        (AccountChange { disabled: wanted.disabled, role: wanted.role, password_hash }, Timestamp::now());
    let mut write = state.db.write().await?;
    match change_account(&mut write, &email, &change, now).await? {
        AccountChanged::Unknown => Err(Error::NotFound),
        AccountChanged::LastAdmin => {
            let problem = conflict(ProblemKind::LastAdmin, "Last open admin account");
            Err(Error::Refused(problem.detail("make another admin first")))
        }
        AccountChanged::Done { newest } => {
            let entry = AuditEntry::new(AuditKind::UserChanged).by(admin.id, address).about(&email).with(detail);
            audit::record(&mut write, &[entry], now).await?;
            write.commit().await?;
            newest.into_iter().for_each(|newest| state.log.announce(newest));
            Ok(StatusCode::NO_CONTENT)
        }
    }
}
