//! Who fetches a file into a zone. Pure.
//!
//! Invariant: each chunk crosses a link between zones once for each zone. So at any time at most one server of a zone, its
//! *ingress*, is told of sources elsewhere; the others take the chunks from servers of their own zone as they arrive there.
//! There is an ingress whenever a live server of the zone is to hold the file and no live one holds all of it.

use wire::{FileId, ServerId};

use crate::placement::draw;

/// What a server has to do with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member<'a> {
    /// The server.
    pub server: &'a ServerId,
    /// Whether its lease runs.
    pub live: bool,
    /// Whether it is to hold the file.
    pub assigned: bool,
    /// Whether it holds all of it, verified.
    pub complete: bool,
    /// Whether its volume takes anything in.
    pub takes: bool,
}

/// The one server of a zone that fetches `file` from other zones; `members` are those of the zone.
pub fn ingress<'a>(file: FileId, members: &[Member<'a>]) -> Option<&'a ServerId> {
    let live = || members.iter().filter(|member| member.live);
    if live().any(|member| member.complete) {
        return None;
    }
    // Weights change while a file is under way and must not move the role, so they do not count here. One that is full or
    // whose disk fails would keep the file from all others.
    let able = live().filter(|member| member.assigned);
    able.max_by_key(|member| (member.takes, draw(file, member.server))).map(|member| member.server)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ids(count: usize) -> Vec<ServerId> {
        (0..count).map(|n| format!("fs-{n}").parse().unwrap()).collect()
    }

    fn members<'a>(ids: &'a [ServerId], states: &[(bool, bool, bool, bool)]) -> Vec<Member<'a>> {
        let member = |(server, (live, assigned, complete, takes)): (&'a ServerId, &(bool, bool, bool, bool))| Member {
            server,
            live: *live,
            assigned: *assigned,
            complete: *complete,
            takes: *takes,
        };
        ids.iter().zip(states).map(member).collect()
    }

    #[test]
    fn when_the_ingress_dies_the_next_one_follows() {
        let (file, ids) = (FileId::new(), ids(3));
        let mut all = members(&ids, &[(true, true, false, true); 3]);
        let mut seen = Vec::new();
        while let Some(chosen) = ingress(file, &all) {
            seen.push(chosen.clone());
            all.iter_mut().filter(|member| member.server == chosen).for_each(|member| member.live = false);
        }
        seen.sort();
        assert_eq!(seen, ids);
    }

    proptest! {
        #[test]
        fn there_is_one_ingress_exactly_while_somebody_needs_one(
            states in prop::collection::vec(any::<(bool, bool, bool, bool)>(), 0..9),
            seed in any::<u64>(),
        ) {
            let (file, ids) = (FileId::new(), ids(states.len()));
            let mut all = members(&ids, &states);
            let chosen = ingress(file, &all).cloned();
            let held = states.iter().any(|(live, _, complete, _)| *live && *complete);
            let needed = states.iter().any(|(live, assigned, ..)| *live && *assigned);
            prop_assert_eq!(chosen.is_some(), needed && !held);
            if let Some(chosen) = &chosen {
                let at = all.iter().find(|member| member.server == chosen).unwrap();
                prop_assert!(at.live && at.assigned && !at.complete);
                let able = states.iter().any(|(live, assigned, _, takes)| *live && *assigned && *takes);
                prop_assert_eq!(at.takes, able);
            }
            // Whoever asks, and in whatever order the servers are listed, there is no second one.
            if !all.is_empty() {
                let turn = usize::try_from(seed % all.len() as u64).unwrap();
                all.rotate_left(turn);
            }
            prop_assert_eq!(ingress(file, &all).cloned(), chosen);
        }
    }
}
