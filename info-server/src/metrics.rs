//! The numbers of this server. None of their labels comes from outside but the names of enrolled servers' zones.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{http::StatusCode, response::Response};
use bus::Phase;
use jiff::Timestamp;
use lifecycle::observe::{Requests, exposition};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};
use tokio::sync::Mutex;

use wire::job::JobState;

use crate::{
    app::State,
    jobs::{Numbers, lock},
};

/// How long one text is shown to everybody who asks: it takes reading the database, and needs no token.
const FRESH: Duration = Duration::from_secs(1);
/// How long the database may take; without it the other numbers are shown.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Zone {
    zone: String,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Kind {
    state: &'static str,
}

/// How requests of one kind ended.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outcomes(Family<Outcome, Counter>);

impl Outcomes {
    /// Counts an answer, by the first of `names` whose status it has.
    pub(crate) fn count(&self, response: &Response, names: &[(StatusCode, &'static str)]) {
        let named = names.iter().find(|(status, _)| *status == response.status());
        let outcome = named.map_or("failed", |(_, name)| *name);
        self.0.get_or_create(&Outcome { outcome }).inc();
    }
}

/// Everything that is counted.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    pub(crate) requests: Requests,
    pub(crate) logins: Outcomes,
    pub(crate) introspections: Outcomes,
    published: Family<Outcome, Counter>,
    outbox_rows: Gauge,
    outbox_age: Gauge,
    bus: Family<Kind, Gauge>,
    servers: Family<Zone, Gauge>,
    files: Family<Kind, Gauge>,
    replicas: Family<Kind, Gauge>,
    unknown: Gauge,
    jobs: Jobs,
    shown: Mutex<Option<(Instant, Arc<str>)>>,
}

impl Metrics {
    /// Registers the numbers; `grants` is counted where tokens are committed.
    pub(crate) fn new(grants: Counter) -> Self {
        let mut registry = Registry::with_prefix("ddm_info_server");
        let requests = Requests::register(&mut registry);
        let (logins, introspections) = (Outcomes::default(), Outcomes::default());
        let (published, bus, servers) = (Family::default(), Family::default(), Family::default());
        let (files, replicas) = (Family::default(), Family::default());
        let (outbox_rows, outbox_age, unknown) = (Gauge::default(), Gauge::default(), Gauge::default());
        registry.register("logins", "Log-ins by outcome: done, refused, throttled, failed", logins.0.clone());
        let help = "Tokens that file servers asked about, by outcome: found, unknown, failed";
        registry.register("introspections", help, introspections.0.clone());
        registry.register("grants", "Download tokens issued and committed", grants);
        registry.register("events_published", "Events sent to the bus: confirmed, unrouted", published.clone());
        registry.register("outbox_rows", "Events that wait for the bus", outbox_rows.clone());
        let help = "Age of the oldest event that waits for the bus, 0 when none does";
        registry.register_with_unit("outbox_age", help, Unit::Seconds, outbox_age.clone());
        registry.register("bus", "1 for what the publishing side of the bus is doing", bus.clone());
        registry.register("servers_live", "Live file servers by zone", servers.clone());
        registry.register("files", "Files in the catalogue by state", files.clone());
        registry.register("replicas", "Replicas on live and dead servers: complete, partial", replicas.clone());
        let help = "Files that file servers hold and the catalogue does not know, once for each server";
        registry.register("unknown_files", help, unknown.clone());
        Self {
            jobs: Jobs::register(&mut registry),
            registry,
            requests,
            logins,
            introspections,
            published,
            outbox_rows,
            outbox_age,
            bus,
            servers,
            files,
            replicas,
            unknown,
            shown: Mutex::default(),
        }
    }

    /// Counts events that the bus took.
    pub(crate) fn published(&self, outcome: &'static str, events: usize) {
        self.published.get_or_create(&Outcome { outcome }).inc_by(u64::try_from(events).unwrap_or(u64::MAX));
    }

    /// The text that Prometheus reads, at most [`FRESH`] old.
    pub(crate) async fn show(&self, state: &State) -> Arc<str> {
        let mut shown = self.shown.lock().await;
        if let Some((_, text)) = shown.as_ref().filter(|(at, _)| at.elapsed() < FRESH) {
            return text.clone();
        }
        self.look(state).await;
        let text: Arc<str> = exposition(&self.registry).into();
        *shown = Some((Instant::now(), text.clone()));
        text
    }

    /// Reads what is a state rather than a count.
    async fn look(&self, state: &State) {
        let phase = state.bus.publishing().borrow().phase;
        for (name, of) in [
            ("idle", Phase::Idle),
            ("connecting", Phase::Connecting),
            ("connected", Phase::Connected),
            ("blocked", Phase::Blocked),
        ] {
            self.bus.get_or_create(&Kind { state: name }).set(i64::from(of == phase));
        }
        // Zones whose last server is gone stay, with 0: an alert on their absence would never end.
        let known: Vec<String> = state.registry().zones().into_iter().map(|zone| zone.to_string()).collect();
        let live = state.live();
        for zone in known {
            let here = live.iter().filter(|server| server.zone.as_str() == zone).count();
            self.servers.get_or_create(&Zone { zone }).set(gauge(here));
        }
        self.jobs.look(&lock(&state.jobs.numbers));
        let counted = tokio::time::timeout(PATIENCE, self.count_rows(state)).await.map_err(anyhow::Error::from);
        if let Err(error) = counted.flatten() {
            tracing::warn!("metrics lack what the database knows: {error:#}");
        }
    }

    async fn count_rows(&self, state: &State) -> anyhow::Result<()> {
        let (rows, oldest) = state.store.backlog().await?;
        self.outbox_rows.set(gauge(rows));
        let age = oldest.map_or(0, |oldest| Timestamp::now().duration_since(oldest).as_secs().max(0));
        self.outbox_age.set(age);
        let census = state.store.census().await?;
        for (state, count) in census.files {
            self.files.get_or_create(&Kind { state: state.as_str() }).set(gauge(count));
        }
        self.replicas.get_or_create(&Kind { state: "complete" }).set(gauge(census.complete));
        self.replicas.get_or_create(&Kind { state: "partial" }).set(gauge(census.partial));
        self.unknown.set(gauge(census.unknown));
        Ok(())
    }
}

/// What is counted of jobs.
#[derive(Debug, Default)]
struct Jobs {
    states: Family<Kind, Gauge>,
    leases: Gauge,
    stale: Counter,
    origin_bytes: Counter,
    convicted: Counter,
}

impl Jobs {
    fn register(registry: &mut Registry) -> Self {
        let new = Self::default();
        registry.register("jobs", "Collaborative downloads by state", new.states.clone());
        registry.register("job_leases", "Spans that workers are at", new.leases.clone());
        registry.register("job_stale_fences", "Reports under a lease that was over", new.stale.clone());
        let help = "Bytes that file servers took from origins, by their own word";
        registry.register_with_unit("job_origin", help, Unit::Bytes, new.origin_bytes.clone());
        registry.register("job_workers_convicted", "Workers found to tell wrong digests", new.convicted.clone());
        new
    }

    /// Takes over what the task of the jobs counted.
    fn look(&self, numbers: &Numbers) {
        for state in JobState::ALL {
            let count = numbers.states.get(state.as_str()).copied().unwrap_or(0);
            self.states.get_or_create(&Kind { state: state.as_str() }).set(count);
        }
        self.leases.set(numbers.leases);
        for (counter, total) in [
            (&self.stale, numbers.stale),
            (&self.origin_bytes, numbers.origin_bytes),
            (&self.convicted, numbers.convicted),
        ] {
            counter.inc_by(total.saturating_sub(counter.get()));
        }
    }
}

fn gauge(count: impl TryInto<i64>) -> i64 {
    count.try_into().unwrap_or(i64::MAX)
}
