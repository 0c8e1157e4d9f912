//! Warnings about zones that no file server is in. A mistyped zone would otherwise only make everything slower.

use std::{collections::BTreeSet, time::Duration};

use info_client::UserClient;
use wire::{Zone, server::ServerInfo};

use crate::{
    context::Context,
    output::{print_json, status},
};

/// Longest time that the list of servers may take: the command itself must not wait for a warning.
const LIST_TIMEOUT: Duration = Duration::from_secs(2);

/// Warns about those of `zones` that no live file server is in.
pub(super) async fn warn_of_unknown(context: &Context, info: &UserClient, zones: &[Zone]) {
    if zones.is_empty() {
        return;
    }
    let listed = context.cancel.run_until_cancelled(tokio::time::timeout(LIST_TIMEOUT, info.servers())).await;
    // Without a list there is nothing to compare with; the command itself reports what is wrong.
    let Some(Ok(Ok(list))) = listed else { return };
    let Some(warning) = warning(zones, &list.servers) else { return };
    if context.common.json {
        print_json(&serde_json::json!({ "event": "unknown-zone", "message": warning }));
    }
    status(&format!("ddm-client: {warning}"));
}

/// Returns the warning, if one of the zones is unknown. While no server is live, no zone is known.
fn warning(zones: &[Zone], servers: &[ServerInfo]) -> Option<String> {
    let known: BTreeSet<&Zone> = servers.iter().map(|server| &server.zone).collect();
    let unknown: Vec<&str> = zones.iter().filter(|zone| !known.contains(zone)).map(Zone::as_str).collect();
    if unknown.is_empty() || known.is_empty() {
        return None;
    }
    let known: Vec<&str> = known.into_iter().map(Zone::as_str).collect();
    Some(format!(
        "no live file server is in the zone {}; there are servers in {}",
        unknown.join(", "),
        known.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_unknown_zone_is_answered_with_the_known_ones() {
        let server = |id: &str, zone: &str| -> ServerInfo {
            serde_json::from_value(json!({
                "id": id, "zone": zone, "url": "http://127.0.0.1:9", "load": 0, "free_bytes": 1,
                "last_seen": "2026-01-01T00:00:00Z", "weight": 1, "draining": false,
            }))
            .unwrap()
        };
        let servers = [server("a", "us"), server("b", "eu"), server("c", "us")];
        let zones = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect::<Vec<Zone>>();
        assert_eq!(
            warning(&zones(&["eu", "moon"]), &servers).as_deref(),
            Some("no live file server is in the zone moon; there are servers in eu, us")
        );
        assert_eq!(warning(&zones(&["eu", "us"]), &servers), None);
        assert_eq!(warning(&zones(&["moon"]), &[]), None);
    }
}
