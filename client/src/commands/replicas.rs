//! Where a file stands, and waiting until it stands as it should.

use std::time::{Duration, Instant};

use transfer::info::InfoServer;
use wire::{FileId, Zone, catalog::ReplicaStatus};

use super::{Context, Exit, emit, say, tell};
use crate::text;

const GLANCE: Duration = Duration::from_secs(1);

pub(super) async fn run(context: &Context, file: FileId) -> anyhow::Result<()> {
    let status = context.info_server()?.replicas(file).await?;
    if context.common.json {
        emit(&status);
        return Ok(());
    }
    say(&format!("{:<18}  {:<10}  {:>8}  {:<8}  STATE", "SERVER", "ZONE", "VERIFIED", "WANTED"));
    for replica in &status.replicas {
        let share = text::whole_percent(replica.verified.into(), status.chunks.into());
        let wanted = if replica.assigned { "yes" } else { "no" };
        let state = match (replica.live, replica.draining) {
            (false, _) => "away",
            (true, true) => "draining",
            (true, false) => "live",
        };
        let (server, zone) = (&replica.server, &replica.zone);
        say(&format!("{server:<18}  {zone:<10}  {:>8}  {wanted:<8}  {state}", format!("{share} %")));
    }
    for dispute in &status.disputes {
        say(&format!(
            "the publisher's SHA-256 is not that of the content: {} computed {}; publish the file again",
            dispute.server, dispute.sha256
        ));
    }
    say(&match missing(&status, None) {
        None => "replicated: every replica that is wanted is complete and verified".to_owned(),
        Some(missing) => format!("not replicated: {missing}"),
    });
    Ok(())
}

/// What is missing until a file stands as it should, everywhere or in one zone; none when it does.
fn missing(status: &ReplicaStatus, only: Option<&Zone>) -> Option<String> {
    if status.zones.is_empty() {
        return Some("it is not published yet".to_owned());
    }
    let mut gaps = Vec::new();
    for (zone, there) in status.zones.iter().filter(|(zone, _)| only.is_none_or(|only| only.as_str() == zone.as_str()))
    {
        if there.complete >= there.wanted {
            continue;
        }
        let place = if zone.is_empty() { String::new() } else { format!(" in {zone}") };
        let few = match there.servers {
            servers if servers < there.wanted => format!(" (only {servers} live servers can hold it)"),
            _ => String::new(),
        };
        gaps.push(format!("{} of {} replicas{place} are complete{few}", there.complete, there.wanted));
    }
    (!gaps.is_empty()).then(|| gaps.join(", "))
}

/// Waits until a file stands as it should, everywhere or in one zone, and says what is missing when it does not in time.
pub(super) async fn wait(
    context: &Context,
    info: &InfoServer,
    (file, zone): (FileId, Option<&Zone>),
    limit: Duration,
) -> anyhow::Result<Exit> {
    let began = Instant::now();
    loop {
        let Some(asked) = context.cancel.run_until_cancelled(info.replicas(file)).await else {
            return Ok(Exit::Interrupted);
        };
        let gap = match asked {
            Ok(status) => match missing(&status, zone) {
                None => {
                    if context.common.json {
                        emit(&serde_json::json!({ "event": "replicated", "id": file, "status": status }));
                    } else {
                        say(&format!("{file} is replicated: complete and verified wherever it was wanted"));
                    }
                    return Ok(Exit::Done);
                }
                Some(gap) => gap,
            },
            // Refusals stay what they are; one that is away may come back.
            Err(error) if error.status().is_some() => return Err(error.into()),
            Err(error) => error.to_string(),
        };
        if began.elapsed() >= limit {
            if context.common.json {
                emit(&serde_json::json!({ "event": "not-replicated", "id": file, "missing": gap }));
            }
            tell(&format!("ddm-client: {file} is not replicated after {}: {gap}", text::time(limit)));
            return Ok(Exit::Failed);
        }
        if context.cancel.run_until_cancelled(tokio::time::sleep(GLANCE)).await.is_none() {
            return Ok(Exit::Interrupted);
        }
    }
}

#[cfg(test)]
mod tests {
    use wire::catalog::ZoneStatus;

    use super::*;

    #[test]
    fn what_is_missing_is_named_by_zone() {
        let zone = |wanted, complete, servers| ZoneStatus { wanted, complete, servers };
        let mut status = ReplicaStatus {
            file: FileId::new(),
            chunks: 4,
            replicated: false,
            zones: [("eu".to_owned(), zone(2, 2, 3)), ("us".to_owned(), zone(2, 0, 1))].into(),
            replicas: Vec::new(),
            disputes: Vec::new(),
        };
        let told = "0 of 2 replicas in us are complete (only 1 live servers can hold it)";
        assert_eq!(missing(&status, None).as_deref(), Some(told));
        assert_eq!(missing(&status, Some(&"eu".parse().unwrap())), None);
        status.zones = [(String::new(), zone(3, 1, 3))].into();
        assert_eq!(missing(&status, None).as_deref(), Some("1 of 3 replicas are complete"));
        status.zones.clear();
        assert!(missing(&status, None).is_some());
    }
}
