use anyhow::Context as _;
use wire::catalog;

use super::{Context, Exit, emit, replicas, say};
use crate::cli::Preheat;

pub(super) async fn run(context: &Context, preheat: &Preheat) -> anyhow::Result<Exit> {
    let zone = context.common.zone.as_ref().context("name the zone with --zone")?;
    let info = context.info_server()?;
    let asked = catalog::Preheat { zone: zone.clone(), replicas: preheat.replicas };
    let told = context.cancel.run_until_cancelled(info.preheat(preheat.file, &asked)).await;
    let Some(told) = told else { return Ok(Exit::Interrupted) };
    told?;
    if context.common.json {
        emit(&serde_json::json!({ "event": "preheating", "id": preheat.file, "zone": zone }));
    } else {
        say(&format!("{} is to stand in {zone} too.", preheat.file));
    }
    match preheat.wait {
        None => Ok(Exit::Done),
        Some(limit) => replicas::wait(context, &info, (preheat.file, Some(zone)), limit).await,
    }
}
