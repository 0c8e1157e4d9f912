//! The collection of metrics that are a state rather than a count, and their exposition.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bus::{BusState, Phase};
use http_front::observe::encode_metrics;
use jiff::Timestamp;
use lifecycle::fault_log::FaultLog;
use wire::job::JobState;

use crate::{
    metrics::registry::{Exposition, KindLabel, StateLabel, ZoneLabel},
    state::State,
};

static FAULTS: FaultLog = FaultLog::new("The metrics lack the database's numbers");

/// Time for which one text is given to every caller: making it reads the database, and asking needs no token.
const EXPOSITION_LIFETIME: Duration = Duration::from_secs(1);
/// Longest wait for the database; without it the other metrics are shown.
const DATABASE_TIMEOUT: Duration = Duration::from_secs(2);

/// Returns the text that Prometheus reads, at most [`EXPOSITION_LIFETIME`] old.
pub(crate) async fn expose(state: &State) -> Arc<str> {
    let mut kept = state.metrics.exposition.lock().await;
    if let Some(kept) = kept.as_ref().filter(|kept| kept.made_at.elapsed() < EXPOSITION_LIFETIME) {
        return kept.text.clone();
    }
    collect(state).await;
    let text: Arc<str> = encode_metrics(&state.metrics.registry).into();
    *kept = Some(Exposition { made_at: Instant::now(), text: text.clone() });
    text
}

async fn collect(state: &State) {
    let metrics = &state.metrics;
    let BusState { phase, kind, .. } = state.bus.publishing().borrow().clone();
    metrics.bus_failure.clear();
    if let Some(kind) = kind {
        metrics.bus_failure.get_or_create(&KindLabel { kind }).set(1);
    }
    for (name, of) in [
        ("idle", Phase::Idle),
        ("connecting", Phase::Connecting),
        ("connected", Phase::Connected),
        ("blocked", Phase::Blocked),
    ] {
        metrics.bus.get_or_create(&StateLabel { state: name }).set(i64::from(of == phase));
    }
    // Zones whose last server is gone stay, with 0: an alert on their absence would never end.
    let known: Vec<String> = state.registry().zones().into_iter().map(|zone| zone.to_string()).collect();
    let live = state.live();
    for zone in known {
        let here = live.iter().filter(|server| server.zone.as_str() == zone).count();
        metrics.servers.get_or_create(&ZoneLabel { zone }).set(gauge(here));
    }
    collect_jobs(state);
    let rows = tokio::time::timeout(DATABASE_TIMEOUT, collect_rows(state)).await.map_err(anyhow::Error::from);
    if let Err(error) = rows.flatten() {
        FAULTS.failed(format_args!("{error:#}"));
    }
}

/// Takes over what the task of the jobs counted.
fn collect_jobs(state: &State) {
    let (metrics, numbers) = (&state.metrics.jobs, state.jobs.numbers());
    for state in JobState::ALL {
        let count = numbers.states.get(state.as_str()).copied().unwrap_or(0);
        metrics.states.get_or_create(&StateLabel { state: state.as_str() }).set(count);
    }
    metrics.leases.set(numbers.leases);
    for (counter, total) in [
        (&metrics.stale, numbers.counters.stale_reports),
        (&metrics.origin_bytes, numbers.counters.origin_bytes),
        (&metrics.excluded_workers, numbers.counters.faulty_workers),
    ] {
        counter.inc_by(total.saturating_sub(counter.get()));
    }
}

async fn collect_rows(state: &State) -> anyhow::Result<()> {
    let metrics = &state.metrics;
    let backlog = state.db.backlog().await?;
    metrics.outbox_rows.set(gauge(backlog.events));
    let age = backlog.oldest.map_or(0, |oldest| Timestamp::now().duration_since(oldest).as_secs().max(0));
    metrics.outbox_age.set(age);
    let counts = state.db.catalogue_counts().await?;
    for (state, count) in counts.files {
        metrics.files.get_or_create(&StateLabel { state: state.as_str() }).set(gauge(count));
    }
    metrics.replicas.get_or_create(&StateLabel { state: "complete" }).set(gauge(counts.complete));
    metrics.replicas.get_or_create(&StateLabel { state: "partial" }).set(gauge(counts.partial));
    metrics.orphaned.set(gauge(counts.orphaned));
    metrics.damaged.set(gauge(state.db.damaged_files().await?));
    Ok(())
}

fn gauge(count: impl TryInto<i64>) -> i64 {
    count.try_into().unwrap_or(i64::MAX)
}
