//! The ingress of a zone: the one server that fetches a file from other zones. Pure.
//!
//! Invariant: each chunk crosses a link between zones once for each zone. So at any time at most one server of a zone, its
//! *ingress*, is given sources in other zones; the others take the chunks from servers of their own zone as they arrive there.
//! There is an ingress whenever a live server of the zone is to hold the file and no live one holds all of it.

use std::time::Duration;

use wire::{FileId, ServerId};

use crate::replication::placement::rendezvous_number;

/// Time for which a server must be live to be chosen by its number. When a link is back, the servers behind it come back one after
/// the other: if each took the role from the one before, all of them would fetch the same chunks.
const SETTLING_TIME: Duration = Duration::from_secs(60);

/// A server of the zone and its state of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IngressCandidate<'a> {
    /// The server.
    pub server: &'a ServerId,
    /// True while its lease runs.
    pub live: bool,
    /// Time since it came.
    pub live_for: Duration,
    /// Set if it is to hold the file.
    pub assigned: bool,
    /// Set if it holds all of it, verified.
    pub complete: bool,
    /// True while its volume has room.
    pub accepts_files: bool,
}

/// Returns the one server of a zone that fetches `file` from other zones; `candidates` are the servers of the zone.
pub fn ingress<'a>(file: FileId, candidates: &[IngressCandidate<'a>]) -> Option<&'a ServerId> {
    let live = || candidates.iter().filter(|candidate| candidate.live);
    if live().any(|candidate| candidate.complete) {
        return None;
    }
    // Weights change while a file is under way and must not move the role, so they do not count here. One that is full or
    // whose disk fails would keep the file from all others.
    let able = live().filter(|candidate| candidate.assigned);
    let number = |candidate: &&IngressCandidate<'_>| rendezvous_number(file, candidate.server);
    able.max_by_key(|candidate| (candidate.accepts_files, candidate.live_for.min(SETTLING_TIME), number(candidate)))
        .map(|candidate| candidate.server)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ids(count: usize) -> Vec<ServerId> {
        (0..count).map(|n| format!("fs-{n}").parse().unwrap()).collect()
    }

    fn candidates<'a>(ids: &'a [ServerId], states: &[(bool, bool, bool, bool)]) -> Vec<IngressCandidate<'a>> {
        let candidate =
            |(server, (live, assigned, complete, accepts_files)): (&'a ServerId, &(bool, bool, bool, bool))| {
                IngressCandidate {
                    server,
                    live: *live,
                    live_for: SETTLING_TIME,
                    assigned: *assigned,
                    complete: *complete,
                    accepts_files: *accepts_files,
                }
            };
        ids.iter().zip(states).map(candidate).collect()
    }

    #[test]
    fn when_the_ingress_dies_the_next_one_follows() {
        let (file, ids) = (FileId::new(), ids(3));
        let mut all = candidates(&ids, &[(true, true, false, true); 3]);
        let mut seen = Vec::new();
        while let Some(chosen) = ingress(file, &all) {
            seen.push(chosen.clone());
            all.iter_mut().filter(|candidate| candidate.server == chosen).for_each(|candidate| candidate.live = false);
        }
        seen.sort();
        assert_eq!(seen, ids);
    }

    #[test]
    fn servers_that_come_back_one_after_the_other_do_not_take_the_role_from_each_other() {
        let (file, ids) = (FileId::new(), ids(3));
        let mut all = candidates(&ids, &[(true, true, false, true); 3]);
        for (n, seconds) in [(0, 1), (1, 3), (2, 2)] {
            all[n].live_for = Duration::from_secs(seconds);
        }
        assert_eq!(ingress(file, &all), Some(&ids[1]));
        all[2].live_for = SETTLING_TIME * 2;
        assert_eq!(ingress(file, &all), Some(&ids[2]));
        // Of those that have been there for long, the number decides, not the order of arrival.
        let settled = candidates(&ids, &[(true, true, false, true); 3]);
        all.iter_mut().zip(2..).for_each(|(candidate, times)| candidate.live_for = SETTLING_TIME * times);
        assert_eq!(ingress(file, &all), ingress(file, &settled));
    }

    proptest! {
        #[test]
        fn there_is_one_ingress_exactly_while_somebody_needs_one(
            states in prop::collection::vec(any::<(bool, bool, bool, bool)>(), 0..9),
            seed in any::<u64>(),
        ) {
            let (file, ids) = (FileId::new(), ids(states.len()));
            let mut all = candidates(&ids, &states);
            let chosen = ingress(file, &all).cloned();
            let held = states.iter().any(|(live, _, complete, _)| *live && *complete);
            let needed = states.iter().any(|(live, assigned, ..)| *live && *assigned);
            prop_assert_eq!(chosen.is_some(), needed && !held);
            if let Some(chosen) = &chosen {
                let at = all.iter().find(|candidate| candidate.server == chosen).unwrap();
                prop_assert!(at.live && at.assigned && !at.complete);
                let able = states.iter().any(|(live, assigned, _, accepts_files)| *live && *assigned && *accepts_files);
                prop_assert_eq!(at.accepts_files, able);
            }
            // In whatever order the servers are listed, there is no second one.
            if !all.is_empty() {
                let turn = usize::try_from(seed % all.len() as u64).unwrap();
                all.rotate_left(turn);
            }
            prop_assert_eq!(ingress(file, &all).cloned(), chosen);
        }
    }
}
