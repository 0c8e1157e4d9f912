//! Snapshots: the present state as events, for file servers that the log cannot bring up to date.

use jiff::Timestamp;
use wire::{
    ServerId,
    event::{Event, EventPayload, LogHeader, SCHEMA, Stream},
};

use crate::{error::Result, state::State};

/// Revocations in one event.
const MAX_REVOCATIONS_PER_EVENT: usize = 256;

/// Takes a snapshot for one file server: the tokens that it must not honour, the files that it must not take in, and the files that it
/// is to hold.
///
/// Grants are left out: a file server asks for the tokens that it has not received. So are files that were deleted, but for
/// those that an upload token could still bring: a file server asks about the files that it holds.
pub(crate) async fn take(state: &State, server: &ServerId) -> Result<(LogHeader, Vec<Event>)> {
    let as_of = state.db.last_seq().await?;
    let now = Timestamp::now();
    let revocations = state.db.live_revocations(now).await?;
    let deleted = state.db.deleted(now.checked_sub(state.config.access.upload_lifetime)?).await?;
    let assigned = state.db.assigned_to(server, u32::MAX).await?;
    let epoch = state.db.epoch();
    let revoked = revocations
        .chunks(MAX_REVOCATIONS_PER_EVENT)
        .map(|tokens| (Stream::All, EventPayload::TokenRevoked { tokens: tokens.to_vec() }));
    let deleted = deleted.into_iter().map(|file| (Stream::All, EventPayload::FileDeleted { file }));
    let own = Stream::Server(server.clone());
    let assigned = assigned.into_iter().map(|file| (own.clone(), EventPayload::ReplicaAssigned { file }));
    // What has ended stays ended however it is ordered; a snapshot of an empty log still needs a number.
    let seq = as_of.max(1);
    let event = |(stream, fact)| Event { schema: SCHEMA, epoch, stream, prev: 0, seq, at: now, payload: fact };
    let events = revoked.chain(deleted).chain(assigned).map(event).collect();
    Ok((LogHeader { epoch, as_of, snapshot: true }, events))
}
