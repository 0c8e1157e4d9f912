//! The numbers of one server.

use lifecycle::observe::{Requests, exposition};
use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::{Registry, Unit},
};

use crate::volume::Volume;

/// Everything that is counted. Clones count together.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    pub(crate) requests: Requests,
    pub(crate) content_requests: Counter,
    pub(crate) content_bytes: Counter,
    pub(crate) cold_reads: Counter,
    pub(crate) bodies_cut: Counter,
    pub(crate) upload_chunks: Counter,
    pub(crate) upload_bytes: Counter,
    pub(crate) upload_mismatches: Counter,
    pub(crate) syncs: Counter,
    pub(crate) refused: Counter,
    pub(crate) token_hits: Counter,
    pub(crate) token_misses: Counter,
    pub(crate) introspections: Counter,
    pub(crate) undecided: Counter,
    pub(crate) events: Counter,
    pub(crate) unreadable: Counter,
    pub(crate) catchups: Counter,
    pub(crate) reports: Counter,
    pub(crate) replicated_chunks: Counter,
    pub(crate) replicated_bytes: Counter,
    pub(crate) replication_mismatches: Counter,
    pub(crate) origin_chunks: Counter,
    pub(crate) origin_bytes: Counter,
    pub(crate) spans_failed: Counter,
    pub(crate) stale_leases: Counter,
    pub(crate) scrubbed_bytes: Counter,
    pub(crate) quarantined: Counter,
    pub(crate) lost: Counter,
    pub(crate) replicating: Gauge,
    pub(crate) jobs: Gauge,
    pub(crate) event_age: Gauge,
    bodies_running: Gauge,
    registered: Gauge,
    facts_connected: Gauge,
    tokens_cached: Gauge,
    low_on_room: Gauge,
    volume_failing: Gauge,
    unknown_files: Gauge,
}

/// What is a state rather than a count.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Present {
    /// Bodies being sent.
    pub(crate) bodies: u64,
    /// Whether the last heartbeat was accepted.
    pub(crate) registered: bool,
    /// Whether facts arrive.
    pub(crate) facts: bool,
    /// Tokens in memory.
    pub(crate) tokens: u64,
    /// How the volume was found.
    pub(crate) volume: Volume,
    /// Files kept that the catalogue does not know.
    pub(crate) unknown_files: u64,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("ddm_file_server");
        let requests = Requests::register(&mut registry);
        let mut counter = |name: &str, help: &str| {
            let counter = Counter::default();
            registry.register(name, help, counter.clone());
            counter
        };
        let content_requests = counter("content_requests", "Requests for content that were authorised");
        let content_bytes = counter("content_bytes", "Bytes of content handed to connections");
        let cold_reads = counter("cold_reads", "Reads that had to wait for the disk");
        let bodies_cut = counter("bodies_cut", "Bodies cut by a revocation");
        let upload_chunks = counter("upload_chunks", "Chunks received, verified and synced");
        let upload_bytes = counter("upload_bytes", "Bytes received for chunks");
        let upload_mismatches = counter("upload_mismatches", "Chunks that did not match their digest");
        let syncs = counter("syncs", "Syncs of blobs");
        let refused = counter("refused", "Requests refused for want of a valid token");
        let token_hits = counter("token_hits", "Tokens found in memory");
        let token_misses = counter("token_misses", "Tokens not found in memory");
        let introspections = counter("introspections", "Tokens the info-server was asked about");
        let undecided = counter("undecided", "Requests answered 503 because a token could not be decided");
        let events = counter("events", "Facts applied");
        let unreadable = counter("unreadable_events", "Messages and lines of the log that could not be read");
        let catchups = counter("catchups", "Times the streams were fetched over HTTP");
        let reports = counter("reports", "Replica reports accepted");
        let replicated_chunks = counter("replicated_chunks", "Chunks fetched from other servers and verified");
        let replicated_bytes = counter("replicated_bytes", "Bytes fetched from other servers");
        let replication_mismatches = counter("replication_mismatches", "Chunks of other servers that did not match");
        let origin_chunks = counter("origin_chunks", "Chunks of URLs fetched from their origins");
        let origin_bytes = counter("origin_bytes", "Bytes that came from the origins of URLs");
        let spans_failed = counter("spans_failed", "Spans of URLs that were given up");
        let stale_leases = counter("stale_leases", "Spans of URLs that somebody else took over");
        let scrubbed_bytes = counter("scrubbed_bytes", "Bytes read again and hashed");
        let quarantined = counter("quarantined_chunks", "Chunks found spoiled on this disk");
        let lost = counter("lost_replicas", "Replicas whose bytes were gone from this disk");
        let mut gauge = |name: &str, help: &str| {
            let gauge = Gauge::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        let bodies_running = gauge("bodies_running", "Bodies being sent");
        let registered = gauge("registered", "Whether the last heartbeat was accepted");
        let facts_connected = gauge("facts_connected", "Whether facts arrive, by the broker or the log");
        let tokens_cached = gauge("tokens_cached", "Tokens in memory");
        let jobs = gauge("jobs", "URLs of which spans are being fetched");
        let replicating = gauge("replications", "Files being fetched from other servers");
        let low_on_room = gauge("low_on_room", "Whether less room is left than the reserve");
        let volume_failing = gauge("volume_failing", "Whether the volume takes no writes");
        let unknown_files = gauge("unknown_files", "Files kept that the catalogue does not know");
        let event_age = Gauge::default();
        let help = "How old the newest fact was when it was taken in: what the queue or the log lags behind";
        registry.register_with_unit("event_age", help, Unit::Seconds, event_age.clone());
        Self {
            registry,
            requests,
            content_requests,
            content_bytes,
            cold_reads,
            bodies_cut,
            upload_chunks,
            upload_bytes,
            upload_mismatches,
            syncs,
            refused,
            token_hits,
            token_misses,
            introspections,
            undecided,
            events,
            unreadable,
            catchups,
            reports,
            replicated_chunks,
            replicated_bytes,
            replication_mismatches,
            origin_chunks,
            origin_bytes,
            spans_failed,
            stale_leases,
            scrubbed_bytes,
            quarantined,
            lost,
            replicating,
            jobs,
            event_age,
            bodies_running,
            registered,
            facts_connected,
            tokens_cached,
            low_on_room,
            volume_failing,
            unknown_files,
        }
    }
}

impl Metrics {
    /// The text that Prometheus reads.
    pub(crate) fn show(&self, present: Present) -> String {
        let Present { bodies, registered, facts, tokens, volume, unknown_files } = present;
        self.bodies_running.set(i64::try_from(bodies).unwrap_or(i64::MAX));
        self.registered.set(i64::from(registered));
        self.facts_connected.set(i64::from(facts));
        self.tokens_cached.set(i64::try_from(tokens).unwrap_or(i64::MAX));
        self.low_on_room.set(i64::from(volume == Volume::Low));
        self.volume_failing.set(i64::from(volume == Volume::Failing));
        self.unknown_files.set(i64::try_from(unknown_files).unwrap_or(i64::MAX));
        exposition(&self.registry)
    }
}
