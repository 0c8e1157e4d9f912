use std::sync::Arc;

use axum::extract::State as Shared;
use http_front::{
    extract::{Json, Path},
    openapi::{Conflict, Forbidden},
};
use jiff::Timestamp;
use serde_json::json;
use wire::{
    FileId, ProblemKind,
    catalogue::{FilePolicy, FileState, Policy, PolicyChange, PolicyOutcome, PreheatRequest},
};

use crate::{
    accounts::{
        audit::{AuditEntry, AuditKind},
        store::audit,
    },
    catalogue::{self, file::File},
    error::{Error, Result, conflict, invalid},
    http::{
        auth::SignedInUser,
        client_ip::ClientIp,
        files::{change_file::changeable, preheat_file::MAX_PREHEATED_ZONES, show_policy::present},
    },
    jobs::job_file,
    replication::{
        candidates,
        goal::ReplicationGoal,
        plan::{self, ReplicaTarget},
        policy::{self, MAX_REPLICAS},
        store,
    },
    state::State,
};

/// `PATCH /v1/files/{id}/policy`: changes the servers and zones that are to hold a file, or tells what that would do.
#[utoipa::path(
    patch,
    path = "/v1/files/{id}/policy",
    tag = "Files",
    params(("id" = FileId, Path, description = "The file")), request_body = PolicyChange, security(("session" = [])),
    responses((status = 200, description = "The policy, and the replicas that it drops and adds", body = PolicyOutcome), Forbidden, Conflict)
)]
pub(crate) async fn change_policy(
    Shared(state): Shared<Arc<State>>,
    SignedInUser { user, .. }: SignedInUser,
    ClientIp(address): ClientIp,
    Path(id): Path<FileId>,
    Json(wanted): Json<PolicyChange>,
) -> Result<axum::Json<PolicyOutcome>> {
    let file = changeable(&state, id, &user).await?;
    if file.state != FileState::Available {
        return Err(Error::Refused(conflict(ProblemKind::NotAvailable, "File not published yet")));
    }
    let dry_run = wanted.dry_run;
    let changed = changed(&state, present(&state, id).await?, wanted)?;
    let outcome = outcome(&state, &file, &changed).await?;
    if dry_run {
        return Ok(axum::Json(outcome));
    }
    let mut write = state.db.write().await?;
    catalogue::store::set_policy(&mut write, id, &changed.policy).await?;
    if !store::replace_preheats(&mut write, id, &targets(&changed.preheats)).await? {
        return Err(Error::NotFound);
    }
    let detail = json!({ "policy": changed.policy, "preheats": changed.preheats });
    let entry = AuditEntry::new(AuditKind::FileChanged).by(user.id, address).about(id).with(detail);
    audit::record(&mut write, &[entry], Timestamp::now()).await?;
    write.commit().await?;
    state.planner.push(id);
    tracing::info!(file = %id, "File {id} has another replication policy");
    Ok(axum::Json(outcome))
}

/// Returns the policy with the wanted changes. What is absent stays.
fn changed(state: &State, before: FilePolicy, wanted: PolicyChange) -> Result<FilePolicy> {
    let zones = match wanted.zones {
        None => before.policy.zones,
        Some(zones) => (!zones.is_empty()).then_some(zones),
    };
    let replicas = wanted.replicas.or(before.policy.replicas);
    let is_anywhere = zones.is_none();
    let asked = Policy { replicas, zones, through: before.policy.through };
    // The quorum was for the publication: fewer replicas may be enough from now on.
    let mut policy = policy::resolve(asked, &state.config.replication, 1)?;
    if is_anywhere {
        policy.zones = None;
    }
    let preheats = wanted.preheats.unwrap_or(before.preheats);
    let fits = |preheat: &PreheatRequest| preheat.replicas.is_none_or(|count| (1..=MAX_REPLICAS).contains(&count));
    if preheats.len() > MAX_PREHEATED_ZONES || !preheats.iter().all(fits) {
        return Err(invalid(format!(
            "preheats must name at most {MAX_PREHEATED_ZONES} zones, each with 1 to {MAX_REPLICAS} replicas"
        )));
    }
    let default = state.config.replication.default_replicas;
    let preheats = preheats.into_iter().map(|it| PreheatRequest { replicas: it.replicas.or(Some(default)), ..it });
    Ok(FilePolicy { policy, preheats: preheats.collect() })
}

fn targets(preheats: &[PreheatRequest]) -> Vec<ReplicaTarget> {
    let target =
        |it: &PreheatRequest| ReplicaTarget { zone: Some(it.zone.clone()), replicas: it.replicas.unwrap_or(1) };
    preheats.iter().map(target).collect()
}

/// Returns the replicas that a policy drops and adds.
async fn outcome(state: &State, file: &File, changed: &FilePolicy) -> Result<PolicyOutcome> {
    let settings = &state.config.replication;
    let servers = candidates::load(&state.db, &state.fleet, settings.repair_after).await?;
    let goal = ReplicationGoal::load(&state.db, file.id, settings.default_replicas).await?.ok_or(Error::NotFound)?;
    let goal = goal.with_policy(&changed.policy, targets(&changed.preheats), settings.default_replicas);
    let outline = plan::outline(&goal.plan_input(), &servers);
    let map = job_file::replica_map(&state.jobs, &state.db, &state.fleet, file).await?;
    let dropped = map.servers().iter().filter(|replica| outline.spare.contains(&replica.server.id));
    let dropped = dropped.map(|replica| map.describe(replica));
    Ok(PolicyOutcome {
        policy: changed.clone(),
        dropped: dropped.collect(),
        added: outline.assign,
        short: outline.short,
    })
}
