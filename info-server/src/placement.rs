//! Where a new file goes, and in which order its sources are named. Pure.
//!
//! Rendezvous hashing (Thaler and Ravishankar, 1998): every server draws a number for every file and the highest ones
//! hold it, so that few files move when servers come and go.

use wire::{Digest, FileId, ServerId, Zone, catalog::Policy, server::ServerInfo};

/// Room that stays free on every server, in bytes: a full disk stops more than uploads.
const HEADROOM: u64 = 64 << 20;

/// Fewer servers than the quorum needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shortage {
    /// How many are needed.
    pub quorum: u32,
    /// How many live that would take the file.
    pub fit: u32,
    /// The server that must be among them, if it is not.
    pub without: Option<ServerId>,
}

/// What is asked of a placement.
#[derive(Debug, Clone, Copy)]
pub struct Wish<'a> {
    /// The file.
    pub file: FileId,
    /// Bytes in it.
    pub size: u64,
    /// Where it may stand.
    pub policy: &'a Policy,
    /// How many servers must take it.
    pub quorum: u32,
    /// How many should, if the policy does not say.
    pub replicas: u32,
}

/// The servers that are to hold a file, best first.
///
/// # Errors
/// [`Shortage`] when fewer than the quorum live, fit the policy and have room.
pub fn targets(wish: &Wish<'_>, live: &[ServerInfo]) -> Result<Vec<ServerInfo>, Shortage> {
    let through = wish.policy.through.as_ref();
    let mut fit: Vec<&ServerInfo> = live
        .iter()
        .filter(|server| wish.policy.zones.as_ref().is_none_or(|zones| zones.contains(&server.zone)))
        .filter(|server| server.free_bytes >= wish.size.saturating_add(HEADROOM))
        .collect();
    let count = u32::try_from(fit.len()).unwrap_or(u32::MAX);
    let through_fits = through.is_none_or(|id| fit.iter().any(|server| server.id == *id));
    if count < wish.quorum || !through_fits {
        let without = if through_fits { None } else { through.cloned() };
        return Err(Shortage { quorum: wish.quorum, fit: count, without });
    }
    fit.sort_by_cached_key(|server| (Some(&server.id) != through, std::cmp::Reverse(draw(wish.file, &server.id))));
    let wanted = wish.policy.replicas.unwrap_or(wish.replicas).max(wish.quorum);
    Ok(fit.into_iter().take(usize::try_from(wanted).unwrap_or(usize::MAX)).cloned().collect())
}

fn draw(file: FileId, server: &ServerId) -> Digest {
    let mut hasher = wire::Hasher::new();
    hasher.update(file.as_bytes());
    hasher.update(server.as_str().as_bytes());
    hasher.finish()
}

/// Orders sources for somebody in `zone`: their own zone first, then the least loaded.
pub fn best_first(servers: &mut [ServerInfo], zone: Option<&Zone>) {
    servers.sort_by(|a, b| {
        let far = |server: &ServerInfo| zone.is_some_and(|zone| server.zone != *zone);
        (far(a), a.load, &a.id).cmp(&(far(b), b.load, &b.id))
    });
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::*;

    fn server(n: usize, zone: &str, load: u32, free_bytes: u64) -> ServerInfo {
        ServerInfo {
            id: format!("fs-{n}").parse().unwrap(),
            zone: zone.parse().unwrap(),
            url: "http://127.0.0.1:9".parse().unwrap(),
            load,
            free_bytes,
            last_seen: Timestamp::UNIX_EPOCH,
        }
    }

    fn ids(servers: &[ServerInfo]) -> Vec<&str> {
        servers.iter().map(|server| server.id.as_str()).collect()
    }

    const ROOM: u64 = 1 << 40;

    #[test]
    fn a_shortage_names_both_numbers() {
        let live = [server(1, "a", 0, ROOM), server(2, "b", 0, 0)];
        let policy = Policy::default();
        let wish = Wish { file: FileId::new(), size: 1, policy: &policy, quorum: 2, replicas: 3 };
        assert_eq!(targets(&wish, &live).unwrap_err(), Shortage { quorum: 2, fit: 1, without: None });
        let policy = Policy { zones: Some(vec!["c".parse().unwrap()]), ..Policy::default() };
        assert_eq!(targets(&Wish { policy: &policy, quorum: 1, ..wish }, &live).unwrap_err().fit, 0);
    }

    #[test]
    fn the_importing_server_is_always_among_the_targets() {
        let live: Vec<_> = (0..9).map(|n| server(n, "a", 0, ROOM)).collect();
        for n in 0..9 {
            let through: ServerId = format!("fs-{n}").parse().unwrap();
            let policy = Policy { through: Some(through.clone()), replicas: Some(1), ..Policy::default() };
            let wish = Wish { file: FileId::new(), size: 1, policy: &policy, quorum: 1, replicas: 3 };
            assert_eq!(ids(&targets(&wish, &live).unwrap()), [through.as_str()]);
        }
        let policy = Policy { through: Some("gone".parse().unwrap()), ..Policy::default() };
        let wish = Wish { file: FileId::new(), size: 1, policy: &policy, quorum: 1, replicas: 3 };
        assert_eq!(targets(&wish, &live).unwrap_err().without, policy.through);
    }

    #[test]
    fn the_own_zone_comes_first_and_then_the_idle_servers() {
        let mut servers = [server(1, "a", 0, 0), server(2, "b", 9, 0), server(3, "b", 2, 0), server(4, "a", 1, 0)];
        best_first(&mut servers, Some(&"b".parse().unwrap()));
        assert_eq!(ids(&servers), ["fs-3", "fs-2", "fs-1", "fs-4"]);
        best_first(&mut servers, None);
        assert_eq!(ids(&servers), ["fs-1", "fs-4", "fs-3", "fs-2"]);
    }

    proptest! {
        #[test]
        fn a_server_that_leaves_moves_only_its_own_files(count in 4..12_usize, gone in 0..4_usize) {
            let live: Vec<_> = (0..count).map(|n| server(n, "a", 0, ROOM)).collect();
            let policy = Policy::default();
            let wish = Wish { file: FileId::new(), size: 1, policy: &policy, quorum: 2, replicas: 3 };
            let before = targets(&wish, &live).unwrap();
            let rest: Vec<_> = live.iter().filter(|s| s.id.as_str() != format!("fs-{gone}")).cloned().collect();
            let after = targets(&wish, &rest).unwrap();
            let stayed = before.iter().filter(|s| after.iter().any(|t| t.id == s.id)).count();
            prop_assert!(stayed >= before.len() - 1);
            prop_assert_eq!(after.len(), 3);
        }
    }
}
