//! Shows and changes the servers and zones that are to hold a file.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use info_client::UserClient;
use wire::{
    FileId, Zone,
    catalogue::{FilePolicy, PolicyChange, PolicyOutcome, ReplicaInfo},
    grammar::counted,
};

use crate::{
    cli::Policy,
    context::Context,
    exit::Exit,
    lookup,
    output::{print, print_json, status},
};

/// Runs `policy`.
///
/// # Errors
/// When the info-server refuses the change.
pub(super) async fn run(context: &Context, policy: &Policy) -> anyhow::Result<Exit> {
    let work = async {
        let info = context.info_server()?;
        let file = lookup::published(context, &policy.file).await?;
        let zones = if policy.anywhere { Some(Vec::new()) } else { policy.zones.clone() };
        if policy.replicas.is_none() && zones.is_none() {
            show(context, file, &info.policy(file).await?);
            return Ok(Exit::Done);
        }
        // A policy that is stated is the whole of it: zones that were requested beside it end.
        let preheats = zones.is_some().then(Vec::new);
        let change = PolicyChange { replicas: policy.replicas, zones, preheats, dry_run: false };
        apply(context, &info, Wanted { file, change, is_dry_run: policy.dry_run, is_confirmed: policy.yes }).await
    };
    context.cancel.run_until_cancelled(work).await.unwrap_or(Ok(Exit::Interrupted))
}

/// Change of a policy.
pub(super) struct Wanted {
    pub(super) file: FileId,
    pub(super) change: PolicyChange,
    /// Set if only its effect is to be shown.
    pub(super) is_dry_run: bool,
    /// Set if no question is to be asked.
    pub(super) is_confirmed: bool,
}

/// Shows the replicas that a change drops, asks on a terminal, and makes the change.
pub(super) async fn apply(context: &Context, info: &UserClient, wanted: Wanted) -> anyhow::Result<Exit> {
    let Wanted { file, change, is_dry_run, is_confirmed } = wanted;
    let effect = info.change_policy(file, &PolicyChange { dry_run: true, ..change.clone() }).await?;
    if is_dry_run || !effect.dropped.is_empty() {
        show_effect(context, file, &effect, if is_dry_run { "policy-effect" } else { "policy-drops" });
    }
    if is_dry_run {
        return Ok(Exit::Done);
    }
    let asks = !effect.dropped.is_empty() && !is_confirmed && !context.common.json && io::stdin().is_terminal();
    if asks && !tokio::task::spawn_blocking(confirm).await? {
        status("Nothing was changed.");
        return Ok(Exit::Failed);
    }
    let outcome = info.change_policy(file, &change).await?;
    if context.common.json {
        print_json(&serde_json::json!({ "event": "policy", "id": file, "policy": outcome }));
        return Ok(Exit::Done);
    }
    show(context, file, &outcome.policy);
    show_shortage(&outcome);
    Ok(Exit::Done)
}

fn confirm() -> bool {
    let mut line = String::new();
    let asked = write!(io::stderr(), "Drop them once all wanted replicas are complete? [y/N] ");
    asked.is_ok()
        && io::stdin().lock().read_line(&mut line).is_ok()
        && matches!(line.trim().to_lowercase().as_str(), "y" | "yes")
}

fn show(context: &Context, file: FileId, policy: &FilePolicy) {
    if context.common.json {
        print_json(policy);
        return;
    }
    print(&format!("{file}: {}", describe(policy)));
    for preheat in &policy.preheats {
        let replicas = preheat.replicas.unwrap_or(1);
        print(&format!("  and {} in {}, requested with preheat", counted(replicas, "replica"), preheat.zone));
    }
}

/// Describes the replicas that a policy wants.
fn describe(policy: &FilePolicy) -> String {
    let replicas = policy.policy.replicas.unwrap_or(1);
    match &policy.policy.zones {
        None => format!("{} in any zones", counted(replicas, "replica")),
        Some(zones) => {
            let zones: Vec<&str> = zones.iter().map(Zone::as_str).collect();
            let each = if zones.len() > 1 { "each of " } else { "" };
            format!("{} in {each}{}", counted(replicas, "replica"), zones.join(", "))
        }
    }
}

fn show_effect(context: &Context, file: FileId, effect: &PolicyOutcome, event: &str) {
    if context.common.json {
        print_json(&serde_json::json!({ "event": event, "id": file, "policy": effect }));
        return;
    }
    print(&format!("{file} would have {}.", describe(&effect.policy)));
    for ReplicaInfo { server, zone, verified, .. } in &effect.dropped {
        print(&format!("  dropped: {server} in {zone} ({} verified)", counted(*verified, "chunk")));
    }
    effect.added.iter().for_each(|server| print(&format!("  added:   {server}")));
    show_shortage(effect);
}

fn show_shortage(outcome: &PolicyOutcome) {
    if outcome.short > 0 {
        print(&format!("  {} wanted without a server that can hold it", counted(outcome.short, "replica")));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_policy_is_described_in_one_line() {
        for (policy, described) in [
            (json!({ "replicas": 3 }), "3 replicas in any zones"),
            (json!({ "replicas": 1, "zones": ["eu"] }), "1 replica in eu"),
            (json!({ "replicas": 2, "zones": ["eu", "us"] }), "2 replicas in each of eu, us"),
        ] {
            let policy: FilePolicy = serde_json::from_value(json!({ "policy": policy })).unwrap();
            assert_eq!(describe(&policy), described);
        }
    }
}
