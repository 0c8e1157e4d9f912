//! The metrics of one server.

use chunk_store::{StoreMetrics, VolumeState};
use http_front::observe::{RequestMetrics, encode_metrics};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

/// Counters and gauges. The chunk store counts in `store`, which is registered here.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    pub(crate) requests: RequestMetrics,
    pub(crate) content_requests: Counter,
    pub(crate) ready_content_requests: Counter,
    pub(crate) store: StoreMetrics,
    pub(crate) bodies_cut: Counter,
    pub(crate) refused: Counter,
    pub(crate) token_hits: Counter,
    pub(crate) token_misses: Counter,
    pub(crate) introspections: Counter,
    pub(crate) undecided: Counter,
    pub(crate) events: Counter,
    pub(crate) unreadable: Counter,
    pub(crate) catchups: Counter,
    pub(crate) reports: Counter,
    pub(crate) replication_mismatches: Counter,
    pub(crate) chunk_reports: Counter,
    pub(crate) confirmed_reports: Counter,
    pub(crate) false_reports: Counter,
    pub(crate) origin_chunks: Counter,
    pub(crate) origin_bytes: Counter,
    pub(crate) spans_failed: Counter,
    pub(crate) stale_leases: Counter,
    pub(crate) replicating: Gauge,
    pub(crate) jobs: Gauge,
    pub(crate) event_age: Gauge,
    bodies_running: Gauge,
    registered: Gauge,
    facts_connected: Gauge,
    facts_failure: Family<KindLabel, Gauge>,
    tokens_cached: Gauge,
    low_space: Gauge,
    volume_failing: Gauge,
    orphaned_files: Gauge,
}

/// Present values of the gauges.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CurrentValues {
    /// Responses being sent.
    pub(crate) responses: u64,
    /// True while the last heartbeat was accepted.
    pub(crate) registered: bool,
    /// True while events arrive.
    pub(crate) events: bool,
    /// Kind of failure for which they do not.
    pub(crate) events_failure: Option<&'static str>,
    /// Tokens in memory.
    pub(crate) tokens: u64,
    /// State of the volume.
    pub(crate) volume: VolumeState,
    /// Files kept that the catalogue does not have.
    pub(crate) orphaned_files: u64,
}

/// Registers the chunk store's counters.
fn register_store(registry: &mut Registry) -> StoreMetrics {
    let store = StoreMetrics::default();
    for (name, help, counter) in [
        ("content_bytes", "Bytes of content handed to connections", &store.content_bytes),
        ("cold_reads", "Reads that had to wait for the disk", &store.cold_reads),
        ("upload_chunks", "Chunks received, verified and synced", &store.upload_chunks),
        ("upload_bytes", "Bytes received for chunks", &store.upload_bytes),
        ("upload_mismatches", "Chunks that did not match their digest", &store.upload_mismatches),
        ("syncs", "Syncs of blobs", &store.syncs),
        ("replicated_chunks", "Chunks fetched from other servers and verified", &store.replicated_chunks),
        ("replicated_bytes", "Bytes fetched from other servers", &store.replicated_bytes),
        ("scrubbed_bytes", "Bytes read again and hashed", &store.scrubbed_bytes),
        ("corrected_digests", "Wrong digests in this database of intact chunks", &store.corrected_digests),
        ("quarantined_chunks", "Chunks found corrupt on this disk", &store.corrupt_chunks),
        ("lost_replicas", "Replicas whose bytes were gone from this disk", &store.lost_files),
    ] {
        registry.register(name, help, counter.clone());
    }
    store
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("ddm_file_server");
        let requests = RequestMetrics::register(&mut registry);
        let store = register_store(&mut registry);
        let mut counter = |name: &str, help: &str| {
            let counter = Counter::default();
            registry.register(name, help, counter.clone());
            counter
        };
        let content_requests = counter("content_requests", "Requests for content that were authorised");
        let ready_content_requests = counter("content_requests_ready", "Those of them answered without a wait");
        let bodies_cut = counter("bodies_cut", "Responses that a revocation ended");
        let refused = counter("refused", "Requests refused because they had no valid token");
        let token_hits = counter("token_hits", "Tokens found in memory");
        let token_misses = counter("token_misses", "Tokens not found in memory");
        let introspections = counter("introspections", "Tokens looked up at the info-server");
        let undecided = counter("undecided", "Requests answered 503 because a token could not be checked");
        let events = counter("events", "Events applied");
        let unreadable = counter("unreadable_events", "Messages and lines of the log that could not be parsed");
        let catchups = counter("catchups", "Times that the event log was read over HTTP");
        let reports = counter("reports", "Replica reports accepted");
        let replication_mismatches = counter("replication_mismatches", "Chunks of other servers that did not match");
        let chunk_reports = counter("chunk_reports", "Chunks read again because others received wrong bytes from here");
        let confirmed_reports = counter("chunk_reports_confirmed", "Reported chunks that were corrupt here");
        let false_reports = counter("chunk_reports_false", "Reported chunks that were intact here");
        let origin_chunks = counter("origin_chunks", "Chunks of URLs fetched from their origins");
        let origin_bytes = counter("origin_bytes", "Bytes that came from the origins of URLs");
        let spans_failed = counter("spans_failed", "Spans of URLs that were given back");
        let stale_leases = counter("stale_leases", "Spans of URLs that another worker took over");
        let facts_failure = Family::default();
        let help = "Set to 1 for the kind of failure for which events do not arrive";
        registry.register("facts_failure", help, facts_failure.clone());
        let mut gauge = |name: &str, help: &str| {
            let gauge = Gauge::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        let bodies_running = gauge("bodies_running", "Responses being sent");
        let registered = gauge("registered", "Set to 1 while the last heartbeat was accepted");
        let facts_connected = gauge("facts_connected", "Set to 1 while events arrive, by the broker or the log");
        let tokens_cached = gauge("tokens_cached", "Tokens in memory");
        let jobs = gauge("jobs", "URLs of which spans are being fetched");
        let replicating = gauge("replications", "Files being fetched from other servers");
        let low_space = gauge("low_on_room", "Set to 1 while less space is free than the reserve");
        let volume_failing = gauge("volume_failing", "Set to 1 while the volume takes no writes");
        let orphaned_files = gauge("unknown_files", "Orphaned files: kept, and not in the catalogue");
        let event_age = Gauge::default();
        let help = "Age of the newest event when it was applied: the lag of the queue or the log";
        registry.register_with_unit("event_age", help, Unit::Seconds, event_age.clone());
        Self {
            registry,
            requests,
            content_requests,
            ready_content_requests,
            store,
            bodies_cut,
            refused,
            token_hits,
            token_misses,
            introspections,
            undecided,
            events,
            unreadable,
            catchups,
            reports,
            replication_mismatches,
            chunk_reports,
            confirmed_reports,
            false_reports,
            origin_chunks,
            origin_bytes,
            spans_failed,
            stale_leases,
            replicating,
            jobs,
            event_age,
            bodies_running,
            registered,
            facts_connected,
            facts_failure,
            tokens_cached,
            low_space,
            volume_failing,
            orphaned_files,
        }
    }
}

impl Metrics {
    /// Returns the text that Prometheus reads.
    pub(crate) fn show(&self, values: CurrentValues) -> String {
        let CurrentValues { responses, registered, events, events_failure, tokens, volume, orphaned_files } = values;
        self.bodies_running.set(i64::try_from(responses).unwrap_or(i64::MAX));
        self.registered.set(i64::from(registered));
        self.facts_connected.set(i64::from(events));
        self.facts_failure.clear();
        if let Some(kind) = events_failure {
            self.facts_failure.get_or_create(&KindLabel { kind }).set(1);
        }
        self.tokens_cached.set(i64::try_from(tokens).unwrap_or(i64::MAX));
        self.low_space.set(i64::from(volume == VolumeState::LowSpace));
        self.volume_failing.set(i64::from(volume == VolumeState::Failing));
        self.orphaned_files.set(i64::try_from(orphaned_files).unwrap_or(i64::MAX));
        encode_metrics(&self.registry)
    }
}
