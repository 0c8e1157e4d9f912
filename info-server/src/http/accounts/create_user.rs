use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use axum::{
    extract::{FromRequestParts as _, State as Shared},
    http::{StatusCode, request::Parts},
};
use http_front::{
    extract::Json,
    openapi::{Conflict, Forbidden, TooManyRequests, Unauthorized},
};
use jiff::Timestamp;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use wire::{ProblemKind, account::Role};

use crate::{
    accounts::{
        self,
        audit::{AuditEntry, AuditKind},
        email::check_email,
        store::audit,
    },
    error::{Error, Result, conflict, invalid, login_throttled},
    http::{accounts::new_password::hash_new_password, auth::Admin, client_ip::ClientIp},
    state::State,
};

/// A new account.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewUser {
    /// Its name.
    #[schema(max_length = 254, pattern = "^[!-?A-~]+@[!-?A-~]+$")]
    email: String,
    /// Its password.
    #[schema(value_type = String, format = Password, min_length = 8, max_length = 1024)]
    password: SecretString,
    /// A reader when absent.
    role: Option<Role>,
}

/// The account that was made.
#[derive(Serialize, ToSchema)]
pub(crate) struct CreatedUser {
    email: String,
    role: Role,
}

/// `POST /v1/users`: an admin makes any account; anyone makes a reader's where registration is open.
#[utoipa::path(
    post,
    path = "/v1/users",
    tag = "Accounts",
    request_body = NewUser, security(("session" = []), ()),
    responses((status = 201, description = "Made", body = CreatedUser), Unauthorized, Forbidden, Conflict, TooManyRequests)
)]
pub(crate) async fn create_user(
    Shared(state): Shared<Arc<State>>,
    ClientIp(address): ClientIp,
    mut parts: Parts,
    Json(new): Json<NewUser>,
) -> Result<(StatusCode, axum::Json<CreatedUser>)> {
    let role = new.role.unwrap_or(Role::Reader);
    let by = if state.config.access.open_registration && role == Role::Reader {
        // Each costs a hash and a row for ever: as many are allowed as log-ins may fail, and none is given back.
        let from = address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        drop(state.login_limiter.attempt(&new.email, from).map_err(login_throttled)?);
        None
    } else {
        Some(Admin::from_request_parts(&mut parts, &state).await?.0.id)
    };
    check_email(&new.email).map_err(invalid)?;
    let (hash, now) = (hash_new_password(&state, new.password).await?, Timestamp::now());
    let mut write = state.db.write().await?;
    if !accounts::store::add_user(&mut write, &new.email, &hash, role, now).await? {
        return Err(Error::Refused(conflict(ProblemKind::Taken, "Name taken")));
    }
    let entry = AuditEntry::new(AuditKind::UserAdded).by(by, address).about(&new.email).with(json!({ "role": role }));
    audit::record(&mut write, &[entry], now).await?;
    write.commit().await?;
    Ok((StatusCode::CREATED, axum::Json(CreatedUser { email: new.email, role })))
}
