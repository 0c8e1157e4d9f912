//! The chunks of a published file that no file server can send. Pure. A chunk is missing only if every server that reported lacks
//! it: while no server has reported, nothing is known and nothing is missing.

use wire::{
    ChunkLayout, ChunkSet, Digest,
    catalogue::{MissingCause, MissingChunks, MissingReason},
};

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
    replicas: impl Iterator<Item = KnownReplica<'a>> + Clone,
) -> Option<MissingChunks> {
    let (mut held, mut sendable) = (ChunkSet::new(), ChunkSet::new());
    let known = replicas.clone().any(|replica| replica.record.reported);
    // A server that was released drops its chunks; one with another root has other content.
    let replicas = replicas
        .filter(|KnownReplica { record, .. }| !record.released() && record.root.is_none_or(|found| found == root));
    for KnownReplica { record, live } in replicas.clone() {
        for run in record.runs.iter() {
            held.insert(run.clone());
            if live {
                sendable.insert(run);
            }
        }
    }
    let all = 0..layout.count();
    let unavailable = sendable.gaps(all.clone());
    if !known || unavailable.is_empty() {
        return None;
    }
    let lost = held.gaps(all);
    let causes = causes(&unavailable, &lost, replicas);
    Some(MissingChunks { unavailable, lost, causes })
}

/// Returns the causes that are known, by server.
fn causes<'a>(
    unavailable: &ChunkSet,
    lost: &ChunkSet,
    replicas: impl Iterator<Item = KnownReplica<'a>> + Clone,
) -> Vec<MissingCause> {
    let mut unexplained = lost.clone();
    replicas.clone().flat_map(|replica| replica.record.dropped.iter()).for_each(|run| unexplained.remove(run));
    let mut causes = Vec::new();
    for KnownReplica { record, live } in replicas {
        let mut name = |chunks: ChunkSet, reason| {
            if !chunks.is_empty() {
                causes.push(MissingCause { server: record.server.clone(), chunks, reason });
            }
        };
        if !live {
            name(common(unavailable, &record.runs), MissingReason::Away);
        }
        name(common(lost, &record.dropped), MissingReason::Lost);
        if record.assigned() {
            name(unexplained.clone(), MissingReason::NeverStored);
        }
    }
    causes.sort_by(|a, b| a.server.cmp(&b.server));
    causes
}

/// Returns the chunks in both sets.
fn common(a: &ChunkSet, b: &ChunkSet) -> ChunkSet {
    let mut both = a.clone();
    a.iter().flat_map(|run| b.gaps(run).iter().collect::<Vec<_>>()).for_each(|run| both.remove(run));
    both
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::*;

    const CHUNK_COUNT: u32 = 4;

    fn replica(wanted: Option<bool>, runs: &[(u32, u32)], root: Option<Digest>) -> ReplicaRecord {
        let runs = runs.iter().map(|(start, end)| *start..*end).collect();
        let (server, dropped) = ("eu-1".parse().unwrap(), ChunkSet::new());
        ReplicaRecord { server, wanted, runs, root, sha256: None, reported: true, dropped }
    }

    fn found(replicas: &[(ReplicaRecord, bool)]) -> Option<MissingChunks> {
        let layout = ChunkLayout::of(u64::from(CHUNK_COUNT) << 20).unwrap();
        let known = replicas.iter().map(|(record, live)| KnownReplica { record, live: *live });
        missing(layout, root(), known).map(|missing| MissingChunks { causes: Vec::new(), ..missing })
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
            Some(MissingChunks { unavailable: unavailable.into(), lost: lost.into(), causes: Vec::new() })
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

    #[test]
    fn the_causes_that_are_known_are_named_by_server() {
        let named = |name: &str, runs: &[(u32, u32)], dropped: Range<u32>| ReplicaRecord {
            server: name.parse().unwrap(),
            dropped: dropped.into(),
            ..replica(Some(true), runs, None)
        };
        let cause = |name: &str, chunks: Range<u32>, reason| MissingCause {
            server: name.parse().unwrap(),
            chunks: chunks.into(),
            reason,
        };
        let layout = ChunkLayout::of(u64::from(CHUNK_COUNT) << 20).unwrap();
        let causes = |replicas: &[(ReplicaRecord, bool)]| {
            let known = replicas.iter().map(|(record, live)| KnownReplica { record, live: *live });
            missing(layout, root(), known).unwrap().causes
        };
        let (spoiled, away) = (named("eu-1", &[(0, 2)], 2..4), named("eu-2", &[(2, 3)], 0..0));
        assert_eq!(
            causes(&[(spoiled.clone(), true), (away, false)]),
            [cause("eu-1", 3..4, MissingReason::Lost), cause("eu-2", 2..3, MissingReason::Away)]
        );
        // What one server lost, another one that is to hold it has not received.
        let late = named("eu-3", &[(0, 2)], 0..0);
        assert_eq!(causes(&[(spoiled, true), (late.clone(), true)]), [cause("eu-1", 2..4, MissingReason::Lost)]);
        assert_eq!(causes(&[(late, true)]), [cause("eu-3", 2..4, MissingReason::NeverStored)]);
    }
}
