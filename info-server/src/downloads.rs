//! The right to a file's chunks, for people and for the servers that are to hold it.

use std::time::Duration;

use jiff::Timestamp;
use wire::{
    TokenId, Zone,
    catalog::IssuedToken,
    token::{Grant, Kind, Purpose, Token},
};

use crate::{app::State, caller::Holder, error::Result, replication::standing::Standing, store::tokens::NewToken};

/// For whom a token is that no person asked for.
const NOBODY: i64 = 0;

/// Makes a download token and commits it with the events for the zones that hold the file or are to hold it.
pub(crate) async fn issue(
    state: &State,
    holder: &Holder,
    standing: &Standing,
    lifetime: Duration,
    only: Option<Vec<Zone>>,
) -> Result<IssuedToken> {
    let mut zones = standing.zones();
    if let Some(only) = &only {
        zones.retain(|zone| only.contains(zone));
    }
    let token = Token::generate(Kind::Download);
    let grant = Grant {
        token_hash: token.hash(),
        token_id: TokenId::new(),
        file: standing.file(),
        zones: only,
        expires_at: Timestamp::now().checked_add(lifetime)?,
        purpose: Purpose::Download,
    };
    let (token_id, expires_at) = (grant.token_id, grant.expires_at);
    let (user_id, session, address) = match holder {
        Holder::Person(reader) => (reader.user.id, Some(reader.session), reader.address),
        Holder::Nobody => (NOBODY, None, None),
    };
    state.grants.commit(NewToken { grant, user_id, session, address }, zones).await?;
    Ok(IssuedToken { token, token_id, expires_at })
}
