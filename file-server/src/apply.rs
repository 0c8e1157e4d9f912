//! What becomes of a fact that arrived: decided from its place in its stream alone.

use wire::event::Event;

use crate::store::Cursors;

/// What to do with an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// It is the next one of its stream.
    Next,
    /// It was seen before.
    Seen,
    /// Something before it is missing, or it is of another life of the catalogue: the log must be read first.
    Gap,
    /// It is for somebody else.
    Foreign,
}

/// Where `event` belongs, as seen by a server that has read up to `cursors` of the streams `own`.
pub(crate) fn place(event: &Event, cursors: &Cursors, own: &[wire::event::Stream]) -> Place {
    if !own.contains(&event.stream) {
        return Place::Foreign;
    }
    // An event of another epoch says by itself not which of the two is the later one.
    if cursors.epoch != Some(event.epoch) {
        return Place::Gap;
    }
    let cursor = cursors.of(&event.stream);
    if event.seq <= cursor {
        Place::Seen
    } else if event.prev > cursor {
        Place::Gap
    } else {
        Place::Next
    }
}

/// What of some events that came together is to be remembered, and how many of them that settles; less than all when the
/// log must be read before the next one.
pub(crate) fn leading(events: &[Event], cursors: &Cursors, own: &[wire::event::Stream]) -> (Vec<Event>, usize) {
    let (mut cursors, mut next) = (cursors.clone(), Vec::new());
    for (settled, event) in events.iter().enumerate() {
        match place(event, &cursors, own) {
            Place::Gap => return (next, settled),
            Place::Seen | Place::Foreign => {}
            Place::Next => {
                cursors.streams.insert(event.stream.clone(), event.seq);
                next.push(event.clone());
            }
        }
    }
    (next, events.len())
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use wire::{
        FileId,
        event::{Fact, SCHEMA, Stream},
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
            fact: Fact::FileDeleted { file: FileId::new() },
        };
        let cursors = Cursors { epoch: Some(epoch), streams: [(Stream::All, 10)].into() };
        let theirs = Stream::Zone("us".parse().unwrap());
        for (stream, prev, seq, expected) in [
            (&Stream::All, 10, 12, Place::Next),
            (&Stream::All, 7, 12, Place::Next),
            (&Stream::All, 7, 10, Place::Seen),
            (&Stream::All, 1, 3, Place::Seen),
            (&Stream::All, 11, 12, Place::Gap),
            (&own[0], 0, 5, Place::Next),
            (&own[0], 3, 5, Place::Gap),
            (&theirs, 10, 12, Place::Foreign),
        ] {
            assert_eq!(place(&event(stream, prev, seq), &cursors, &own), expected, "{stream} {prev} {seq}");
        }
        let run = [(0, 5), (5, 6), (5, 6), (6, 9), (11, 12), (12, 13)].map(|(prev, seq)| event(&own[0], prev, seq));
        let (next, settled) = leading(&run, &cursors, &own);
        assert_eq!((next.iter().map(|event| event.seq).collect::<Vec<_>>(), settled), (vec![5, 6, 9], 4));

        let restored = Cursors { epoch: Some(Epoch::new()), ..cursors.clone() };
        assert_eq!(place(&event(&Stream::All, 10, 12), &restored, &own), Place::Gap);
        assert_eq!(place(&event(&Stream::All, 10, 12), &Cursors::default(), &own), Place::Gap);
    }
}
