//! Placement: the servers that a new file goes to, and the order in which servers are chosen for a file. Pure.
//!
//! Rendezvous hashing (Thaler and Ravishankar, 1998): every server has a number for every file, and the servers with
//! the highest numbers hold it, so that few files move when servers come and go.

use wire::{Digest, FileId, ServerId, Zone, catalogue::Policy, server::ServerInfo};

/// Returns true if a file of `size` bytes fits into `free` ones. Servers report what is free above their own reserve, so
/// nothing else is kept free here; a server that takes nothing reports none.
pub(crate) const fn fits(size: u64, free: u64) -> bool {
    size < free
}

/// The refusal of an upload that fewer servers can take than the quorum needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shortage {
    /// Number of servers that are needed.
    pub quorum: u32,
    /// Number of live servers that can take the file.
    pub fit: u32,
    /// The one zone that takes the upload, if the policy names zones.
    pub zone: Option<Zone>,
    /// The server that must be among them and cannot take the file.
    pub without: Option<ServerId>,
}

/// A file that is to be placed.
#[derive(Debug, Clone, Copy)]
pub struct PlacementRequest<'a> {
    /// The file.
    pub file: FileId,
    /// Bytes in it.
    pub size: u64,
    /// Its policy, with nothing left to defaults.
    pub policy: &'a Policy,
    /// Number of servers that must take it.
    pub quorum: u32,
    /// Zone of its publisher.
    pub publisher: Option<&'a Zone>,
}

/// Returns the one zone that takes an upload, when its policy names zones; the other zones fetch the file from there.
fn upload_zone<'a>(request: &PlacementRequest<'a>, live: &'a [ServerInfo]) -> Option<&'a Zone> {
    let zones = request.policy.zones.as_ref()?;
    let through = request.policy.through.as_ref();
    let importer = || live.iter().find(|server| through == Some(&server.id)).map(|server| &server.zone);
    let asked = [request.publisher, importer()].into_iter().flatten().find(|zone| zones.contains(zone));
    asked.or_else(|| zones.first())
}

/// Returns the servers that an upload goes to, best first.
///
/// # Errors
/// [`Shortage`] when fewer than the quorum live, fit the policy and have room.
pub fn targets(request: &PlacementRequest<'_>, live: &[ServerInfo]) -> Result<Vec<ServerInfo>, Shortage> {
    let through = request.policy.through.as_ref();
    let zone = upload_zone(request, live);
    let mut fit: Vec<&ServerInfo> = live
        .iter()
        .filter(|server| zone.is_none_or(|zone| *zone == server.zone))
        .filter(|server| !server.draining && server.weight > 0)
        .filter(|server| fits(request.size, server.free_bytes))
        .collect();
    let count = u32::try_from(fit.len()).unwrap_or(u32::MAX);
    let through_fits = through.is_none_or(|id| fit.iter().any(|server| server.id == *id));
    if count < request.quorum || !through_fits {
        let without = if through_fits { None } else { through.cloned() };
        return Err(Shortage { quorum: request.quorum, fit: count, zone: zone.cloned(), without });
    }
    fit.sort_by_cached_key(|server| {
        (Some(&server.id) != through, std::cmp::Reverse(rank(request.file, &server.id, server.weight)))
    });
    let wanted = request.policy.replicas.unwrap_or(1).max(request.quorum);
    let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
    if let Some(targets) = targets_in_publishers_zone(request, &fit, wanted) {
        return Ok(targets);
    }
    Ok(fit.into_iter().take(wanted).cloned().collect())
}

/// Returns the servers in the publisher's zone that take the upload of a file that may be held anywhere: those that were chosen there, and
/// as many as the quorum needs. Other zones fetch the file afterwards, once for each zone. None where the publisher's zone is not known,
/// or cannot make the quorum.
fn targets_in_publishers_zone(
    request: &PlacementRequest<'_>,
    fit: &[&ServerInfo],
    wanted: usize,
) -> Option<Vec<ServerInfo>> {
    let home = request.publisher.filter(|_| request.policy.zones.is_none() && request.policy.through.is_none())?;
    let quorum = usize::try_from(request.quorum).unwrap_or(usize::MAX);
    let there: Vec<&ServerInfo> = fit.iter().copied().filter(|server| server.zone == *home).collect();
    let drawn = fit.iter().take(wanted).filter(|server| server.zone == *home).count();
    (there.len() >= quorum).then(|| there.into_iter().take(drawn.max(quorum)).cloned().collect())
}

/// Returns a server's number for a file: the highest numbers come first.
pub(crate) fn rendezvous_number(file: FileId, server: &ServerId) -> Digest {
    let mut hasher = wire::Hasher::new();
    hasher.update(file.as_bytes());
    hasher.update(server.as_str().as_bytes());
    hasher.finish()
}

/// A server's place in the order of those that may hold a file.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rank(f64);

impl Eq for Rank {}

impl PartialOrd for Rank {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Rank {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// Ranks a server for a file by weighted rendezvous hashing (Schindelhauer and Schomaker, 2005): with a number `u` between 0 and 1 for each
/// server, `-weight / ln u` is the highest with a probability that is proportional to the weight.
pub fn rank(file: FileId, server: &ServerId, weight: u32) -> Rank {
    let digest = rendezvous_number(file, server);
    let mut words =
        digest.as_bytes().chunks(4).map(|word| word.iter().fold(0_u32, |all, b| (all << 8) | u32::from(*b)));
    let mut word = || f64::from(words.next().unwrap_or_default());
    let unit = (word() + (word() + 0.5) / 4_294_967_296.0) / 4_294_967_296.0;
    Rank(f64::from(weight) / -unit.ln())
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
            weight: 1,
            draining: false,
        }
    }

    fn ids(servers: &[ServerInfo]) -> Vec<&str> {
        servers.iter().map(|server| server.id.as_str()).collect()
    }

    const FREE_BYTES: u64 = 1 << 40;

    #[test]
    fn a_shortage_names_both_numbers() {
        let live = [server(1, "a", 0, FREE_BYTES), server(2, "b", 0, 0)];
        let policy = Policy::default();
        let request = PlacementRequest { file: FileId::new(), size: 1, policy: &policy, quorum: 2, publisher: None };
        assert_eq!(targets(&request, &live).unwrap_err(), Shortage { quorum: 2, fit: 1, zone: None, without: None });
        let policy = Policy { zones: Some(vec!["c".parse().unwrap()]), ..Policy::default() };
        assert_eq!(targets(&PlacementRequest { policy: &policy, quorum: 1, ..request }, &live).unwrap_err().fit, 0);
    }

    #[test]
    fn the_importing_server_is_always_among_the_targets() {
        let live: Vec<_> = (0..9).map(|n| server(n, "a", 0, FREE_BYTES)).collect();
        for n in 0..9 {
            let through: ServerId = format!("fs-{n}").parse().unwrap();
            let policy = Policy { through: Some(through.clone()), replicas: Some(1), ..Policy::default() };
            let request =
                PlacementRequest { file: FileId::new(), size: 1, policy: &policy, quorum: 1, publisher: None };
            assert_eq!(ids(&targets(&request, &live).unwrap()), [through.as_str()]);
        }
        let policy = Policy { through: Some("gone".parse().unwrap()), ..Policy::default() };
        let request = PlacementRequest { file: FileId::new(), size: 1, policy: &policy, quorum: 1, publisher: None };
        assert_eq!(targets(&request, &live).unwrap_err().without, policy.through);
    }

    #[test]
    fn an_upload_goes_to_one_zone_of_those_that_are_named() {
        let live: Vec<_> = (0..9).map(|n| server(n, ["eu", "us", "ap"][n % 3], 0, FREE_BYTES)).collect();
        let [eu, us, ap] = ["eu", "us", "ap"].map(|zone| zone.parse::<Zone>().unwrap());
        let zones = Some(vec![us.clone(), eu.clone()]);
        let importer: ServerId = "fs-0".parse().unwrap();
        for (publisher, through, expected) in [
            (Some(&eu), None, &eu),
            (Some(&us), None, &us),
            (Some(&ap), None, &us),
            (None, None, &us),
            (None, Some(importer.clone()), &eu),
            (Some(&ap), Some(importer), &eu),
        ] {
            let policy = Policy { zones: zones.clone(), through, replicas: Some(2) };
            let request = PlacementRequest { file: FileId::new(), size: 1, policy: &policy, quorum: 2, publisher };
            let chosen = targets(&request, &live).unwrap();
            assert!(chosen.len() == 2 && chosen.iter().all(|server| server.zone == *expected), "{publisher:?}");
        }
    }

    #[test]
    fn a_file_for_anywhere_is_sent_to_the_own_zone_as_far_as_it_makes_the_quorum() {
        let live: Vec<_> = (0..9).map(|n| server(n, ["eu", "us", "ap"][n % 3], 0, FREE_BYTES)).collect();
        let [eu, mars] = ["eu", "mars"].map(|zone| zone.parse::<Zone>().unwrap());
        let policy = Policy { replicas: Some(4), ..Policy::default() };
        for _ in 0..50 {
            let request =
                PlacementRequest { file: FileId::new(), size: 1, policy: &policy, quorum: 2, publisher: None };
            let drawn = targets(&request, &live).unwrap();
            let sent = targets(&PlacementRequest { publisher: Some(&eu), ..request }, &live).unwrap();
            assert!(sent.iter().all(|server| server.zone == eu));
            let at_home: Vec<_> = drawn.iter().filter(|server| server.zone == eu).cloned().collect();
            assert_eq!((sent.len(), sent.get(..at_home.len())), (at_home.len().max(2), Some(at_home.as_slice())));
            // There are fewer than four servers in that zone, and none in the other one.
            assert_eq!(
                targets(&PlacementRequest { publisher: Some(&eu), quorum: 4, ..request }, &live).unwrap(),
                drawn
            );
            assert_eq!(targets(&PlacementRequest { publisher: Some(&mars), ..request }, &live).unwrap(), drawn);
        }
    }

    #[test]
    fn full_draining_and_weightless_servers_take_no_upload() {
        let mut live: Vec<_> = (0..4).map(|n| server(n, "eu", 0, FREE_BYTES)).collect();
        (live[0].free_bytes, live[1].draining, live[2].weight) = (1, true, 0);
        let policy = Policy::default();
        let request = PlacementRequest { file: FileId::new(), size: 1, policy: &policy, quorum: 1, publisher: None };
        assert_eq!(ids(&targets(&request, &live).unwrap()), ["fs-3"]);
    }

    #[test]
    fn a_file_goes_wherever_it_fits_into_what_a_server_reports_as_free() {
        // A volume of 64 MB, whose server keeps nothing free.
        for (size, free, taken) in
            [(32 << 20, 61 << 20, true), (61 << 20, 61 << 20, false), (0, 1, true), (0, 0, false)]
        {
            let policy = Policy::default();
            let request = PlacementRequest { file: FileId::new(), size, policy: &policy, quorum: 1, publisher: None };
            assert_eq!(targets(&request, &[server(0, "eu", 0, free)]).is_ok(), taken, "{size} into {free}");
        }
    }

    #[test]
    fn a_server_holds_files_in_proportion_to_its_weight() {
        let weights = [1, 1, 2, 4];
        let ids: Vec<ServerId> = (0..4).map(|n| format!("fs-{n}").parse().unwrap()).collect();
        let mut won = [0_u32; 4];
        for n in 0..8_000_u32 {
            let mut raw = [0; 16];
            raw[..4].copy_from_slice(&n.to_be_bytes());
            let file = FileId::try_from(&raw[..]).unwrap();
            won[(0..4).max_by_key(|at| rank(file, &ids[*at], weights[*at])).unwrap()] += 1;
        }
        for (at, weight) in weights.into_iter().enumerate() {
            assert!(won[at].abs_diff(1_000 * weight) < 250, "{won:?}");
        }
    }

    proptest! {
        #[test]
        fn a_server_that_leaves_moves_only_its_own_files(count in 4..12_usize, gone in 0..4_usize) {
            let live: Vec<_> = (0..count).map(|n| server(n, "a", 0, FREE_BYTES)).collect();
            let policy = Policy { replicas: Some(3), ..Policy::default() };
            let request = PlacementRequest { file: FileId::new(), size: 1, policy: &policy, quorum: 2, publisher: None };
            let before = targets(&request, &live).unwrap();
            let rest: Vec<_> = live.iter().filter(|s| s.id.as_str() != format!("fs-{gone}")).cloned().collect();
            let after = targets(&request, &rest).unwrap();
            let stayed = before.iter().filter(|s| after.iter().any(|t| t.id == s.id)).count();
            prop_assert!(stayed >= before.len() - 1);
            prop_assert_eq!(after.len(), 3);
        }
    }
}
