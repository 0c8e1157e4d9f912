use anyhow::{Context as _, ensure};
use info_client::UserClient;
use wire::{
    FileId, Zone,
    catalogue::{PolicyChange, PreheatRequest},
};

use super::{
    policy::{self, Wanted},
    replicas::{self, Scope},
};
use crate::{
    cli::Preheat,
    context::Context,
    exit::Exit,
    lookup,
    output::{print, print_json},
};

pub(super) async fn run(context: &Context, preheat: &Preheat) -> anyhow::Result<Exit> {
    let zone = context.common.zone.as_ref().context("no zone given: name it with --zone")?;
    let info = context.info_server()?;
    let found = context.cancel.run_until_cancelled(lookup::published(context, &preheat.file)).await;
    let Some(file) = found.transpose()? else { return Ok(Exit::Interrupted) };
    if preheat.undo {
        let undoing = context.cancel.run_until_cancelled(undo(context, &info, file, zone));
        return undoing.await.unwrap_or(Ok(Exit::Interrupted));
    }
    let request = PreheatRequest { zone: zone.clone(), replicas: preheat.replicas };
    let answer = context.cancel.run_until_cancelled(info.preheat(file, &request)).await;
    let Some(answer) = answer else { return Ok(Exit::Interrupted) };
    answer?;
    if context.common.json {
        print_json(&serde_json::json!({ "event": "preheating", "id": file, "zone": zone }));
    } else {
        print(&format!("Requested replicas of {file} in zone {zone}; `ddm-client replicas {file}` shows them."));
    }
    match preheat.wait {
        None => Ok(Exit::Done),
        Some(limit) => {
            let scope = Scope { file, zone: Some(zone) };
            replicas::wait_until_replicated(context, &info, scope, limit).await
        }
    }
}

/// Ends the request for replicas in a zone.
async fn undo(context: &Context, info: &UserClient, file: FileId, zone: &Zone) -> anyhow::Result<Exit> {
    let before = info.policy(file).await?.preheats;
    let preheats: Vec<PreheatRequest> = before.iter().filter(|preheat| preheat.zone != *zone).cloned().collect();
    ensure!(
        preheats.len() < before.len(),
        "{file} was not requested in zone {zone} with preheat; see `ddm-client policy {file}`"
    );
    let change = PolicyChange { preheats: Some(preheats), ..PolicyChange::default() };
    policy::apply(context, info, Wanted { file, change, is_dry_run: false, is_confirmed: true }).await
}
