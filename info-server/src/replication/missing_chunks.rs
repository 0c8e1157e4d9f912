//! The chunks of a published file that no file server can send. Pure. A chunk is missing only if every server that reported lacks
//! it: while no server has reported, nothing is known and nothing is missing.

use wire::{ChunkLayout, ChunkSet, Digest, catalogue::MissingChunks};

use crate::replication::store::assignments::ReplicaRecord;

/// A replica, and the state of its server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KnownReplica<'a> {
    pub(crate) record: &'a ReplicaRecord,
    /// True while the server's lease runs.
    pub(crate) live: bool,
}

/// Returns the missing chunks of a file with this root; none if there are none.
pub(crate) fn missing<'a>(
    layout: ChunkLayout,
    root: Digest,
    replicas: impl Iterator<Item = KnownReplica<'a>>,
) -> Option<MissingChunks> {
    let (mut held, mut sendable, mut known) = (ChunkSet::new(), ChunkSet::new(), false);
    for KnownReplica { record, live } in replicas {
        known |= record.reported;
        // A server that was released drops its chunks; one with another root has other content.
        if record.released() || record.root.is_some_and(|found| found != root) {
            continue;
        }
        for run in record.runs.iter() {
            held.insert(run.clone());
            if live {
                sendable.insert(run);
            }
        }
    }
    let all = 0..layout.count();
    let unavailable = sendable.gaps(all.clone());
    (known && !unavailable.is_empty()).then(|| MissingChunks { unavailable, lost: held.gaps(all) })
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::*;

    const CHUNK_COUNT: u32 = 4;

    fn replica(wanted: Option<bool>, runs: &[(u32, u32)], root: Option<Digest>) -> ReplicaRecord {
        let runs = runs.iter().map(|(start, end)| *start..*end).collect();
        ReplicaRecord { server: "eu-1".parse().unwrap(), wanted, runs, root, reported: true }
    }

    fn found(replicas: &[(ReplicaRecord, bool)]) -> Option<MissingChunks> {
        let layout = ChunkLayout::of(u64::from(CHUNK_COUNT) << 20).unwrap();
        let known = replicas.iter().map(|(record, live)| KnownReplica { record, live: *live });
        missing(layout, root(), known)
    }

    fn root() -> Digest {
        Digest::of(b"root")
    }

    #[test]
    fn chunks_are_missing_that_no_live_server_holds_and_lost_that_no_server_holds() {
        let whole = || replica(Some(true), &[(0, CHUNK_COUNT)], Some(root()));
        let without = |chunk| replica(Some(true), &[(0, chunk), (chunk + 1, CHUNK_COUNT)], None);
        let other = replica(Some(true), &[(0, CHUNK_COUNT)], Some(Digest::of(b"other")));
        let released = replica(Some(false), &[(0, CHUNK_COUNT)], Some(root()));
        let silent = ReplicaRecord { reported: false, ..replica(Some(true), &[], None) };
        let expected = |unavailable: Range<u32>, lost: Range<u32>| {
            Some(MissingChunks { unavailable: unavailable.into(), lost: lost.into() })
        };
        assert_eq!(found(&[(whole(), true), (without(1), true)]), None);
        assert_eq!(found(&[(without(2), true), (without(1), true)]), None, "each has what the other lacks");
        assert_eq!(found(&[(without(1), true), (without(1), true)]), expected(1..2, 1..2));
        assert_eq!(found(&[(without(1), true), (whole(), false)]), expected(1..2, 0..0));
        assert_eq!(found(&[(without(1), true), (other, true), (released, true)]), expected(1..2, 1..2));
        assert_eq!(found(&[(whole(), false)]), expected(0..CHUNK_COUNT, 0..0));
        assert_eq!(found(&[(silent.clone(), true)]), None, "nothing is known");
        assert_eq!(found(&[(silent, true), (without(3), true)]), expected(3..4, 3..4));
    }
}
