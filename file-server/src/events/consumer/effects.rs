//! Effects of a batch of events: rows in the database, then changes of tokens, responses, blobs and jobs.

use jiff::SignedDuration;
use wire::{
    Digest,
    event::{Event, EventPayload},
};

use super::{ConsumerError, EventConsumer};
use crate::db::{
    DatabaseError,
    event_batches::{Effects, EpochChange, EventBatch},
};

/// Age up to which a hint of work is acted upon.
const MAX_HINT_AGE: SignedDuration = SignedDuration::from_secs(60);

impl EventConsumer {
    /// Stores events, then carries out their effects.
    pub(super) async fn apply_batch(&self, batch: &EventBatch<'_>) -> Result<(), ConsumerError> {
        // First, and whether or not it can be stored.
        self.refuse_revoked(batch.events).await;
        let applied = match self.state.db.note(self.state.db.apply(batch).await) {
            Err(error) if error.is_full() => self.apply_on_full_volume(batch).await,
            applied => applied,
        };
        let Effects { granted, dropped, epoch_change } = applied?;
        self.state.metrics.events.inc_by(u64::try_from(batch.events.len()).unwrap_or(u64::MAX));
        if let Some(event) = batch.events.last().filter(|_| !batch.is_snapshot) {
            let age = self.state.clock.now().duration_since(event.at).as_secs().max(0);
            self.state.metrics.event_age.set(age);
        }
        if let Some(change) = epoch_change {
            match change {
                EpochChange::First => tracing::debug!(epoch = %batch.epoch, "Follows the catalogue for the first time"),
                EpochChange::Replaced => tracing::warn!(
                    epoch = %batch.epoch,
                    "The info-server's catalogue was restored or replaced: reading its grants and events again"
                ),
            }
            self.state.tokens.invalidate_all();
            self.state.blobs.events().notify_changed();
        }
        if epoch_change.is_some() || batch.is_snapshot {
            self.state.open_questions.notify_one();
        }
        self.state.tokens.invalidate(&granted).await;
        for event in batch.events {
            // Only while it is fresh: a hint comes again while there is work.
            if let EventPayload::SpansWaiting { job } = event.payload
                && self.state.clock.now().duration_since(event.at) < MAX_HINT_AGE
            {
                self.state.job_hints.add(job);
            }
        }
        // The set of missing files may have changed: a file was assigned or removed, or this is a snapshot.
        let moves = |event: &Event| {
            matches!(
                event.payload,
                EventPayload::ReplicaAssigned { .. }
                    | EventPayload::ReplicaRemoved { .. }
                    | EventPayload::FileDeleted { .. }
            )
        };
        if batch.is_snapshot || batch.events.iter().any(moves) {
            self.state.blobs.events().notify_missing();
            self.state.blobs.events().notify_reconsidered();
        }
        if !dropped.is_empty() {
            self.state.blobs.remove(dropped).await;
        }
        Ok(())
    }

    /// Stores events on a full volume, among which may be those that free it: with the space that was set aside, then with
    /// that of deleted files. In the end without grants: those are looked up at the info-server.
    async fn apply_on_full_volume(&self, batch: &EventBatch<'_>) -> Result<Effects, DatabaseError> {
        let state = &self.state;
        state.blobs.volume().release_ballast().await;
        match state.db.apply(batch).await {
            Err(error) if error.is_full() => {}
            applied => return applied,
        }
        for event in batch.events {
            // Nothing follows a deletion, so it holds whatever else arrives.
            if let EventPayload::FileDeleted { file } = event.payload
                && let Err(error) = state.blobs.remove_before_record(file).await
            {
                tracing::error!(%file, %error, "File {file} could not be removed from the full volume");
            }
        }
        let is_grant = |event: &&Event| matches!(event.payload, EventPayload::TokenGranted { .. });
        let events: Vec<Event> = batch.events.iter().filter(|event| !is_grant(event)).cloned().collect();
        state.db.apply(&EventBatch { events: &events, cursors: batch.cursors.clone(), ..*batch }).await
    }

    /// Refuses revoked tokens from now on, and ends the responses that they opened.
    pub(super) async fn refuse_revoked(&self, events: &[Event]) {
        let revoked = events.iter().filter_map(|event| match &event.payload {
            EventPayload::TokenRevoked { tokens } => Some(tokens.iter().map(|token| token.token_hash)),
            _ => None,
        });
        let revoked: Vec<Digest> = revoked.flatten().collect();
        if revoked.is_empty() {
            return;
        }
        self.state.tokens.revoke(&revoked).await;
        let cut: usize = revoked.iter().map(|token| self.state.responses.cancel(token)).sum();
        if cut > 0 {
            self.state.metrics.bodies_cut.inc_by(u64::try_from(cut).unwrap_or(u64::MAX));
            tracing::info!(cut, "A revocation ended running responses");
        }
    }
}
