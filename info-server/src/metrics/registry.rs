//! The metrics of this server. None of their labels comes from outside but the names of enrolled servers' zones.

use std::{sync::Arc, time::Instant};

use axum::{http::StatusCode, response::Response};
use http_front::observe::RequestMetrics;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};
use tokio::sync::Mutex;

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct OutcomeLabel {
    pub(crate) outcome: &'static str,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct ZoneLabel {
    pub(crate) zone: String,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct KindLabel {
    pub(crate) kind: &'static str,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct StateLabel {
    pub(crate) state: &'static str,
}

/// Name of an outcome in the metrics.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OutcomeName {
    pub(crate) status: StatusCode,
    pub(crate) name: &'static str,
}

/// Requests of one kind, by outcome.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outcomes(Family<OutcomeLabel, Counter>);

impl Outcomes {
    /// Counts an answer, by the first of `names` whose status it has.
    pub(crate) fn count(&self, response: &Response, names: &[OutcomeName]) {
        let named = names.iter().find(|outcome| outcome.status == response.status());
        let outcome = named.map_or("failed", |outcome| outcome.name);
        self.0.get_or_create(&OutcomeLabel { outcome }).inc();
    }
}

/// The text that Prometheus reads, and the time at which it was made.
#[derive(Debug)]
pub(crate) struct Exposition {
    pub(crate) made_at: Instant,
    pub(crate) text: Arc<str>,
}

/// All metrics of the server.
#[derive(Debug)]
pub(crate) struct Metrics {
    pub(crate) registry: Registry,
    pub(crate) requests: RequestMetrics,
    pub(crate) logins: Outcomes,
    pub(crate) introspections: Outcomes,
    published: Family<OutcomeLabel, Counter>,
    pub(crate) outbox_rows: Gauge,
    pub(crate) outbox_age: Gauge,
    pub(crate) bus: Family<StateLabel, Gauge>,
    pub(crate) bus_failure: Family<KindLabel, Gauge>,
    pub(crate) servers: Family<ZoneLabel, Gauge>,
    pub(crate) files: Family<StateLabel, Gauge>,
    pub(crate) replicas: Family<StateLabel, Gauge>,
    pub(crate) orphaned: Gauge,
    pub(crate) damaged: Gauge,
    pub(crate) jobs: JobMetrics,
    pub(crate) exposition: Mutex<Option<Exposition>>,
}

impl Metrics {
    /// Registers the metrics; `grants` is counted where tokens are committed.
    pub(crate) fn new(grants: Counter) -> Self {
        let mut registry = Registry::with_prefix("ddm_info_server");
        let requests = RequestMetrics::register(&mut registry);
        let (logins, introspections) = (Outcomes::default(), Outcomes::default());
        let (published, bus, servers) = (Family::default(), Family::default(), Family::default());
        let bus_failure = Family::default();
        let (files, replicas) = (Family::default(), Family::default());
        let (outbox_rows, outbox_age, orphaned) = (Gauge::default(), Gauge::default(), Gauge::default());
        let damaged = Gauge::default();
        registry.register("logins", "Log-ins by outcome: done, refused, throttled, failed", logins.0.clone());
        let help = "Tokens that file servers asked about, by outcome: found, unknown, failed";
        registry.register("introspections", help, introspections.0.clone());
        registry.register("grants", "Download tokens issued and committed", grants);
        registry.register("events_published", "Events sent to the bus: confirmed, unrouted", published.clone());
        registry.register("outbox_rows", "Events that wait for the bus", outbox_rows.clone());
        let help = "Age of the oldest event that waits for the bus, 0 when none does";
        registry.register_with_unit("outbox_age", help, Unit::Seconds, outbox_age.clone());
        registry.register("bus", "1 for what the publishing side of the bus is doing", bus.clone());
        let help = "1 for the kind of failure for which the publishing side of the bus is not connected";
        registry.register("bus_failure", help, bus_failure.clone());
        registry.register("servers_live", "Live file servers by zone", servers.clone());
        registry.register("files", "Files in the catalogue by state", files.clone());
        registry.register("replicas", "Replicas on live and dead servers: complete, partial", replicas.clone());
        let help = "Files that file servers hold and the catalogue does not know, once for each server";
        registry.register("unknown_files", help, orphaned.clone());
        let help = "Published files of which chunks are on no file server any more";
        registry.register("damaged_files", help, damaged.clone());
        Self {
            jobs: JobMetrics::register(&mut registry),
            registry,
            requests,
            logins,
            introspections,
            published,
            outbox_rows,
            outbox_age,
            bus,
            bus_failure,
            servers,
            files,
            replicas,
            orphaned,
            damaged,
            exposition: Mutex::default(),
        }
    }

    /// Counts events that the bus accepted.
    pub(crate) fn published(&self, outcome: &'static str, events: usize) {
        self.published.get_or_create(&OutcomeLabel { outcome }).inc_by(u64::try_from(events).unwrap_or(u64::MAX));
    }
}

/// The metrics of jobs.
#[derive(Debug, Default)]
pub(crate) struct JobMetrics {
    pub(crate) states: Family<StateLabel, Gauge>,
    pub(crate) leases: Gauge,
    pub(crate) stale: Counter,
    pub(crate) origin_bytes: Counter,
    pub(crate) excluded_workers: Counter,
}

impl JobMetrics {
    fn register(registry: &mut Registry) -> Self {
        let new = Self::default();
        registry.register("jobs", "Collaborative downloads by state", new.states.clone());
        registry.register("job_leases", "Spans that workers are at", new.leases.clone());
        registry.register("job_stale_fences", "Reports under a lease that was over", new.stale.clone());
        let help = "Bytes that file servers took from origins, by their own word";
        registry.register_with_unit("job_origin", help, Unit::Bytes, new.origin_bytes.clone());
        registry.register("job_workers_convicted", "Workers that reported wrong digests", new.excluded_workers.clone());
        new
    }
}
