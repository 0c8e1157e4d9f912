use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use axum::{
    extract::{FromRequestParts as _, State as Shared},
    http::{StatusCode, request::Parts},
};
use jiff::Timestamp;
use lifecycle::{
    api::{Conflict, Forbidden, TooMany, Unauthenticated},
    http::Json,
};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::{change_user::hashed, create_session::throttled};
use crate::{
    app::State,
    caller::Admin,
    command,
    error::{Error, Result, conflict, invalid},
    peer::Client,
    store::{
        accounts::{self, Role},
        audit::{self, Deed, Kind},
    },
};

/// Who is to be let in.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewUser {
    /// Its name.
    #[schema(max_length = 254, pattern = "^[!-?A-~]+@[!-?A-~]+$")]
    email: String,
    /// Its password.
    #[schema(value_type = String, format = Password, min_length = 8, max_length = 1024)]
    password: SecretString,
    /// A reader when absent.
    role: Option<Role>,
}

/// Who was let in.
#[derive(Serialize, ToSchema)]
pub(super) struct CreatedUser {
    email: String,
    role: Role,
}

/// `POST /v1/users`: an admin makes any account; anyone makes a reader's where registration is open.
#[utoipa::path(
    post,
    path = "/v1/users",
    tag = "Accounts",
    request_body = NewUser, security(("session" = []), ()),
    responses((status = 201, description = "Made", body = CreatedUser), Unauthenticated, Forbidden, Conflict, TooMany)
)]
pub(super) async fn create_user(
    Shared(state): Shared<Arc<State>>,
    Client(address): Client,
    mut parts: Parts,
    Json(new): Json<NewUser>,
) -> Result<(StatusCode, axum::Json<CreatedUser>)> {
    let role = new.role.unwrap_or(Role::Reader);
    let by = if state.config.access.open_registration && role == Role::Reader {
        // Each costs a hash and a row for ever: as many as log-ins may fail, and none is given back.
        let from = address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        drop(state.throttle.attempt(&new.email, from).map_err(throttled)?);
        None
    } else {
        Some(Admin::from_request_parts(&mut parts, &state).await?.0.id)
    };
    command::check_email(&new.email).map_err(invalid)?;
    let (hash, now) = (hashed(&state, new.password).await?, Timestamp::now());
    let mut write = state.store.write().await?;
    if !accounts::add_user(&mut write, &new.email, &hash, role, now).await? {
        return Err(Error::Refused(conflict("taken", "There is an account of this name")));
    }
    let deed = Deed::new(Kind::UserAdded).by(by, address).about(&new.email).with(json!({ "role": role }));
    audit::record(&mut write, &[deed], now).await?;
    write.commit().await?;
    Ok((StatusCode::CREATED, axum::Json(CreatedUser { email: new.email, role })))
}
