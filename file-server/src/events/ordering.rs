//! The decision about an event that arrived, from its position in its stream alone. Pure.
//!
//! Invariant: an event is applied only when every earlier one of its stream was.

use std::collections::BTreeSet;

use wire::event::{Event, EventPayload};

use crate::db::event_batches::Cursors;

/// Position of an event relative to a cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EventPosition {
    /// Next event of its stream.
    Next,
    /// Event that was applied before.
    Applied,
    /// An earlier one is missing, or it is of another epoch: the log must be read first.
    Gap,
    /// Event of a stream for other servers.
    Foreign,
}

/// Returns the position of `event` for a server that has read the streams `own` up to `cursors`.
pub(crate) fn position(event: &Event, cursors: &Cursors, own: &[wire::event::Stream]) -> EventPosition {
    if !own.contains(&event.stream) {
        return EventPosition::Foreign;
    }
    // The event alone does not show which of the two epochs is the later one.
    if cursors.epoch != Some(event.epoch) {
        return EventPosition::Gap;
    }
    let cursor = cursors.of(&event.stream);
    if event.seq <= cursor {
        EventPosition::Applied
    } else if event.prev > cursor {
        EventPosition::Gap
    } else {
        EventPosition::Next
    }
}

/// The first of some events that came together, up to a gap.
#[derive(Debug)]
pub(crate) struct Leading {
    /// Events to apply.
    pub(crate) next: Vec<Event>,
    /// Events that are settled by that; less than all when the log must be read before the next one.
    pub(crate) settled: usize,
}

/// Returns the events before the first gap.
pub(crate) fn leading(events: &[Event], cursors: &Cursors, own: &[wire::event::Stream]) -> Leading {
    let (mut cursors, mut next) = (cursors.clone(), Vec::new());
    for (settled, event) in events.iter().enumerate() {
        match position(event, &cursors, own) {
            EventPosition::Gap => return Leading { next, settled },
            EventPosition::Applied | EventPosition::Foreign => {}
            EventPosition::Next => {
                cursors.streams.insert(event.stream.clone(), event.seq);
                next.push(event.clone());
            }
        }
    }
    Leading { next, settled: events.len() }
}

/// Events at and behind a gap that need not wait for it.
#[derive(Debug, Default)]
pub(crate) struct BehindGap {
    /// Events of streams without a gap up to them, to apply in order.
    pub(crate) next: Vec<Event>,
    /// Indices of the events that are settled once `next` is applied.
    pub(crate) settled: Vec<usize>,
    /// Grants and revocations behind a gap of their stream. They are stored and the cursor stays: a grant names all that it permits,
    /// whatever is missing before it was earlier, and to refuse is right in any case.
    pub(crate) early: Vec<Event>,
}

/// Returns the events that need not wait until the log fills the gaps before them. Events of another epoch all wait: the log alone shows
/// which epoch is the later one.
pub(crate) fn behind_gap(events: &[Event], cursors: &Cursors, own: &[wire::event::Stream]) -> BehindGap {
    let (mut cursors, mut behind, mut broken) = (cursors.clone(), BehindGap::default(), BTreeSet::new());
    for (index, event) in events.iter().enumerate() {
        let position = match position(event, &cursors, own) {
            EventPosition::Next if broken.contains(&event.stream) => EventPosition::Gap,
            position => position,
        };
        match position {
            EventPosition::Applied | EventPosition::Foreign => behind.settled.push(index),
            EventPosition::Next => {
                cursors.streams.insert(event.stream.clone(), event.seq);
                behind.settled.push(index);
                behind.next.push(event.clone());
            }
            EventPosition::Gap => {
                broken.insert(event.stream.clone());
                let is_early =
                    matches!(event.payload, EventPayload::TokenGranted { .. } | EventPayload::TokenRevoked { .. });
                if is_early && cursors.epoch == Some(event.epoch) {
                    behind.early.push(event.clone());
                }
            }
        }
    }
    behind
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use wire::{
        FileId,
        event::{EventPayload, SCHEMA, Stream},
        id::Epoch,
    };

    use super::*;

    #[test]
    fn an_event_is_placed_by_epoch_stream_and_number() {
        let own = Stream::of_server(&"fs-a".parse().unwrap(), &"eu".parse().unwrap());
        let epoch = Epoch::new();
        let event = |stream: &Stream, prev, seq| Event {
            schema: SCHEMA,
            epoch,
            stream: stream.clone(),
            prev,
            seq,
            at: Timestamp::UNIX_EPOCH,
            payload: EventPayload::FileDeleted { file: FileId::new() },
        };
        let cursors = Cursors { epoch: Some(epoch), streams: [(Stream::All, 10)].into() };
        let theirs = Stream::Zone("us".parse().unwrap());
        for (stream, prev, seq, expected) in [
            (&Stream::All, 10, 12, EventPosition::Next),
            (&Stream::All, 7, 12, EventPosition::Next),
            (&Stream::All, 7, 10, EventPosition::Applied),
            (&Stream::All, 1, 3, EventPosition::Applied),
            (&Stream::All, 11, 12, EventPosition::Gap),
            (&own[0], 0, 5, EventPosition::Next),
            (&own[0], 3, 5, EventPosition::Gap),
            (&theirs, 10, 12, EventPosition::Foreign),
        ] {
            assert_eq!(position(&event(stream, prev, seq), &cursors, &own), expected, "{stream} {prev} {seq}");
        }
        let run = [(0, 5), (5, 6), (5, 6), (6, 9), (11, 12), (12, 13)].map(|(prev, seq)| event(&own[0], prev, seq));
        let Leading { next, settled } = leading(&run, &cursors, &own);
        assert_eq!((next.iter().map(|event| event.seq).collect::<Vec<_>>(), settled), (vec![5, 6, 9], 4));

        let granted = |stream: &Stream, prev, seq| Event {
            payload: EventPayload::TokenGranted { grants: Vec::new() },
            ..event(stream, prev, seq)
        };
        let mixed = [
            event(&own[0], 3, 5),
            event(&Stream::All, 10, 12),
            granted(&own[0], 5, 6),
            event(&theirs, 0, 7),
            Event { epoch: Epoch::new(), ..granted(&Stream::All, 12, 13) },
            event(&Stream::All, 12, 14),
        ];
        let behind = behind_gap(&mixed, &cursors, &own);
        let numbers = |events: &[Event]| events.iter().map(|event| event.seq).collect::<Vec<_>>();
        assert_eq!((numbers(&behind.next), behind.settled), (vec![12], vec![1, 3]));
        assert_eq!(numbers(&behind.early), [6], "a grant behind a gap of its stream; none of another epoch");

        let restored = Cursors { epoch: Some(Epoch::new()), ..cursors.clone() };
        assert_eq!(position(&event(&Stream::All, 10, 12), &restored, &own), EventPosition::Gap);
        assert_eq!(position(&event(&Stream::All, 10, 12), &Cursors::default(), &own), EventPosition::Gap);
    }
}
