//! Shows the replicas of a file, and waits until they are complete.

use std::time::{Duration, Instant};

use info_client::UserClient;
use wire::{
    FileId, Zone,
    catalogue::ReplicaStatus,
    grammar::{counted, is_or_are},
};

use crate::{
    context::Context,
    exit::Exit,
    missing_chunks,
    output::{print, print_json, status},
    text,
};

const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Time within which every live server sends a heartbeat to an info-server that has just started.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) async fn run(context: &Context, file: FileId) -> anyhow::Result<()> {
    let replicas = context.info_server()?.replicas(file).await?;
    if context.common.json {
        print_json(&replicas);
        return Ok(());
    }
    print(&format!("{:<18}  {:<10}  {:>8}  {:<8}  STATE", "SERVER", "ZONE", "VERIFIED", "WANTED"));
    for replica in &replicas.replicas {
        let verified = text::whole_percent(replica.verified.into(), replicas.chunks.into());
        let wanted = if replica.assigned { "yes" } else { "no" };
        let state = match (replica.live, replica.draining) {
            (false, _) => "away",
            (true, true) => "draining",
            (true, false) => "live",
        };
        let (server, zone) = (&replica.server, &replica.zone);
        print(&format!("{server:<18}  {zone:<10}  {:>8}  {wanted:<8}  {state}", format!("{verified} %")));
    }
    for conflict in &replicas.disputes {
        print(&format!(
            "The publisher's SHA-256 does not match the content: {} computed {}. Publish the file again.",
            conflict.server, conflict.sha256
        ));
    }
    print(&match missing(&replicas, None) {
        None => "Replicated: every wanted replica is complete and verified.".to_owned(),
        Some(missing) => format!("Not replicated: {missing}"),
    });
    Ok(())
}

/// Describes the replicas that are missing, everywhere or in one zone. None when the file is replicated.
fn missing(replicas: &ReplicaStatus, only: Option<&Zone>) -> Option<String> {
    if replicas.zones.is_empty() {
        return Some("it is not published yet".to_owned());
    }
    let in_scope = |zone: &str| only.is_none_or(|only| only.as_str() == zone);
    let mut gaps = Vec::new();
    for (zone, counts) in replicas.zones.iter().filter(|(zone, _)| in_scope(zone.as_str())) {
        if counts.complete >= counts.wanted {
            continue;
        }
        let in_zone = if zone.is_empty() { String::new() } else { format!(" in {zone}") };
        let shortage = match counts.servers {
            servers if servers < counts.wanted => {
                format!(" (only {} can hold it)", counted(servers, "live server"))
            }
            _ => String::new(),
        };
        let (wanted, are) = (counted(counts.wanted, "replica"), is_or_are(counts.wanted));
        gaps.push(format!("{} of {wanted}{in_zone} {are} complete{shortage}", counts.complete));
    }
    if !gaps.is_empty() {
        gaps.extend(missing_chunks::lines(replicas.missing.as_ref()));
    }
    (!gaps.is_empty()).then(|| gaps.join(", "))
}

/// Replicas to wait for: all of a file, or those of one zone.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scope<'a> {
    pub(super) file: FileId,
    pub(super) zone: Option<&'a Zone>,
}

/// Describes the replicas that cannot come to be, because too few servers can hold them. None while all can.
fn shortage(replicas: &ReplicaStatus, only: Option<&Zone>) -> Option<Shortage> {
    let in_scope = |zone: &str| only.is_none_or(|only| only.as_str() == zone);
    let zones = || replicas.zones.iter().filter(|(zone, _)| in_scope(zone.as_str()));
    let short: Vec<String> = zones()
        .filter(|(_, counts)| counts.servers < counts.wanted)
        .map(|(zone, counts)| {
            let in_zone = if zone.is_empty() { String::new() } else { format!(" in {zone}") };
            let servers = counted(counts.servers, "live server");
            let (wanted, are) = (counted(counts.wanted, "replica"), is_or_are(counts.wanted));
            format!("{wanted} {are} wanted{in_zone}, and only {servers} can hold one")
        })
        .collect();
    let is_all_that_can_be = zones().all(|(_, counts)| counts.complete >= counts.wanted.min(counts.servers));
    (!short.is_empty()).then(|| Shortage { description: short.join("; "), is_all_that_can_be })
}

/// Replicas that cannot come to be.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Shortage {
    description: String,
    /// Set if every replica that can exist is complete.
    is_all_that_can_be: bool,
}

/// Wait for replicas.
struct Wait<'a> {
    context: &'a Context,
    scope: Scope<'a>,
    began: Instant,
    /// Time since which the servers are too few.
    short_since: Option<Instant>,
}

/// Waits until all wanted replicas are complete, and prints the missing ones when the time runs out, or when no further one can come
/// to be.
pub(super) async fn wait_until_replicated(
    context: &Context,
    info: &UserClient,
    scope: Scope<'_>,
    limit: Duration,
) -> anyhow::Result<Exit> {
    let mut wait = Wait { context, scope, began: Instant::now(), short_since: None };
    loop {
        let Some(answer) = context.cancel.run_until_cancelled(info.replicas(scope.file)).await else {
            return Ok(Exit::Interrupted);
        };
        let gap = match answer {
            Ok(replicas) => match missing(&replicas, scope.zone) {
                None => {
                    wait.show_replicated(&replicas);
                    return Ok(Exit::Done);
                }
                Some(gap) if wait.is_in_vain(&replicas) => {
                    wait.show_missing(&format!("is not replicated: {gap}"), &gap);
                    let command = if scope.zone.is_some() { "preheat --replicas" } else { "policy" };
                    status(&format!(
                        "hint: start more file servers there, or want fewer replicas with `ddm-client {command}`"
                    ));
                    return Ok(Exit::Failed);
                }
                Some(gap) => gap,
            },
            // A refusal is final; an info-server that is away may come back.
            Err(error) if error.status().is_some() => return Err(error.into()),
            Err(error) => error.to_string(),
        };
        if wait.began.elapsed() >= limit {
            wait.show_missing(&format!("is not replicated after {}: {gap}", text::time(limit)), &gap);
            return Ok(Exit::Failed);
        }
        if context.cancel.run_until_cancelled(tokio::time::sleep(POLL_INTERVAL)).await.is_none() {
            return Ok(Exit::Interrupted);
        }
    }
}

impl Wait<'_> {
    /// Returns true once all replicas that can exist do, and more are wanted. Says so as soon as it is known.
    fn is_in_vain(&mut self, replicas: &ReplicaStatus) -> bool {
        let Some(shortage) = shortage(replicas, self.scope.zone) else {
            self.short_since = None;
            return false;
        };
        let since = match self.short_since {
            Some(since) => since,
            None => {
                self.show_shortage(&shortage);
                *self.short_since.insert(Instant::now())
            }
        };
        // Servers report to an info-server that was just started within a moment.
        shortage.is_all_that_can_be && since.elapsed() >= HEARTBEAT_TIMEOUT
    }

    fn show_shortage(&self, shortage: &Shortage) {
        let (file, description) = (self.scope.file, &shortage.description);
        if self.context.common.json {
            print_json(&serde_json::json!({ "event": "too-few-servers", "id": file, "message": description }));
        } else {
            status(&format!("{description}: waiting for those that can exist"));
        }
    }

    fn show_replicated(&self, replicas: &ReplicaStatus) {
        let file = self.scope.file;
        if self.context.common.json {
            print_json(&serde_json::json!({ "event": "replicated", "id": file, "status": replicas }));
        } else {
            print(&format!("{file} is replicated: every wanted replica is complete and verified."));
        }
    }

    fn show_missing(&self, message: &str, gap: &str) {
        let file = self.scope.file;
        if self.context.common.json {
            print_json(&serde_json::json!({ "event": "not-replicated", "id": file, "missing": gap }));
        }
        status(&format!("ddm-client: {file} {message}"));
    }
}

#[cfg(test)]
mod tests {
    use wire::catalogue::ZoneStatus;

    use super::*;

    #[test]
    fn a_wait_for_more_replicas_than_servers_is_known_to_be_in_vain() {
        let status = |zones: &[(&str, u32, u32, u32)]| ReplicaStatus {
            file: FileId::new(),
            chunks: 4,
            replicated: false,
            zones: zones
                .iter()
                .map(|(zone, wanted, complete, servers)| {
                    ((*zone).to_owned(), ZoneStatus { wanted: *wanted, complete: *complete, servers: *servers })
                })
                .collect(),
            replicas: Vec::new(),
            disputes: Vec::new(),
            missing: None,
        };
        for (zones, only, is_short, is_all) in [
            (&[("eu", 3, 2, 2)][..], None, true, true),
            (&[("eu", 3, 1, 2)], None, true, false),
            (&[("eu", 2, 1, 2)], None, false, false),
            (&[("eu", 3, 2, 2), ("us", 2, 1, 2)], None, true, false),
            (&[("eu", 3, 2, 2), ("us", 2, 1, 2)], Some("us"), false, false),
            (&[("", 3, 2, 2)], None, true, true),
            (&[], None, false, false),
        ] {
            let only: Option<Zone> = only.map(|zone| zone.parse().unwrap());
            let found = shortage(&status(zones), only.as_ref());
            assert_eq!(found.is_some(), is_short, "{zones:?}");
            assert!(found.as_ref().is_none_or(|found| found.is_all_that_can_be == is_all), "{zones:?} {found:?}");
        }
        let words = shortage(&status(&[("eu", 3, 2, 2)]), None).unwrap().description;
        assert_eq!(words, "3 replicas are wanted in eu, and only 2 live servers can hold one");
    }

    #[test]
    fn missing_replicas_are_named_by_zone() {
        let zone = |wanted, complete, servers| ZoneStatus { wanted, complete, servers };
        let mut replicas = ReplicaStatus {
            file: FileId::new(),
            chunks: 4,
            replicated: false,
            zones: [("eu".to_owned(), zone(2, 2, 3)), ("us".to_owned(), zone(2, 0, 1))].into(),
            replicas: Vec::new(),
            disputes: Vec::new(),
            missing: None,
        };
        let described = "0 of 2 replicas in us are complete (only 1 live server can hold it)";
        assert_eq!(missing(&replicas, None).as_deref(), Some(described));
        assert_eq!(missing(&replicas, Some(&"eu".parse().unwrap())), None);
        replicas.zones = [(String::new(), zone(3, 1, 3))].into();
        assert_eq!(missing(&replicas, None).as_deref(), Some("1 of 3 replicas are complete"));
        replicas.zones.clear();
        assert!(missing(&replicas, None).is_some());
    }
}
