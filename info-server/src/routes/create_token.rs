use std::{sync::Arc, time::Duration};

use axum::{extract::State as Shared, http::StatusCode};
use jiff::Timestamp;
use lifecycle::http::{OptionalJson, Path};
use wire::{
    FileId, TokenId, Zone,
    catalog::{FileState, IssuedToken, TokenRequest},
    token::{Grant, Kind, Purpose, Token},
};

use super::show_file::{existing, holding_zones};
use crate::{
    app::State,
    caller::Reader,
    error::{Error, Result, conflict, invalid},
    store::{accounts::User, tokens::NewToken},
};

/// Zones in one token: with all the tokens of a group commit they must fit one event.
const MAX_ZONES: usize = 32;

/// `POST /v1/files/{id}/tokens`: a further token for a download that runs long, lives shorter, or stays in some zones.
///
/// The body is optional, as everything in it is.
pub(super) async fn create_token(
    Shared(state): Shared<Arc<State>>,
    reader: Reader,
    Path(id): Path<FileId>,
    OptionalJson(asked): OptionalJson<TokenRequest>,
) -> Result<(StatusCode, axum::Json<IssuedToken>)> {
    let longest = state.config.access.download_lifetime;
    let lifetime = asked.lifetime_s.map_or(longest, |seconds| Duration::from_secs(seconds.into()));
    if lifetime.is_zero() || lifetime > longest {
        return Err(invalid(format!("lifetime_s must be between 1 and {}", longest.as_secs())));
    }
    if asked.zones.as_ref().is_some_and(|zones| !(1..=MAX_ZONES).contains(&zones.len())) {
        return Err(invalid(format!("zones must name 1 to {MAX_ZONES} zones; leave it out for any")));
    }
    let file = existing(&state, id).await?;
    if file.state != FileState::Available {
        return Err(Error::Refused(conflict("not-available", "The file is not published yet")));
    }
    let issued = issue_download(&state, reader.user, id, lifetime, asked.zones).await?;
    Ok((StatusCode::CREATED, axum::Json(issued)))
}

/// Makes a download token and commits it with the events for the zones that hold the file.
pub(super) async fn issue_download(
    state: &State,
    user: User,
    file: FileId,
    lifetime: Duration,
    only: Option<Vec<Zone>>,
) -> Result<IssuedToken> {
    let mut zones = holding_zones(state, file).await?;
    if let Some(only) = &only {
        zones.retain(|zone| only.contains(zone));
    }
    let token = Token::generate(Kind::Download);
    let grant = Grant {
        token_hash: token.hash(),
        token_id: TokenId::new(),
        file,
        zones: only,
        expires_at: Timestamp::now().checked_add(lifetime)?,
        purpose: Purpose::Download,
    };
    let (token_id, expires_at) = (grant.token_id, grant.expires_at);
    state.grants.commit(NewToken { grant, user_id: user.id }, zones).await?;
    Ok(IssuedToken { token, token_id, expires_at })
}
