//! Counters of one server, in the text form that Prometheus reads.

use std::{
    fmt::Write as _,
    sync::atomic::{AtomicU64, Ordering},
};

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn one(&self) {
        self.add(1);
    }
}

/// What one server counts.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
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
}

impl Metrics {
    /// The text form (exposition format 0.0.4); `gauges` are numbers that come and go.
    pub(crate) fn render(&self, gauges: &[(&str, &str, u64)]) -> String {
        let counters = [
            ("content_requests", "Requests for content that were authorised", &self.content_requests),
            ("content_bytes", "Bytes of content handed to connections", &self.content_bytes),
            ("cold_reads", "Reads that had to wait for the disk", &self.cold_reads),
            ("bodies_cut", "Bodies cut by a revocation", &self.bodies_cut),
            ("upload_chunks", "Chunks received, verified and synced", &self.upload_chunks),
            ("upload_bytes", "Bytes received for chunks", &self.upload_bytes),
            ("upload_mismatches", "Chunks that did not match their digest", &self.upload_mismatches),
            ("syncs", "Syncs of blobs", &self.syncs),
            ("refused", "Requests refused for want of a valid token", &self.refused),
            ("token_hits", "Tokens found in memory", &self.token_hits),
            ("token_misses", "Tokens not found in memory", &self.token_misses),
            ("introspections", "Tokens the info-server was asked about", &self.introspections),
            ("undecided", "Requests answered 503 because a token could not be decided", &self.undecided),
            ("events", "Facts applied", &self.events),
            ("unreadable_events", "Messages and lines of the log that could not be read", &self.unreadable),
            ("catchups", "Times the streams were fetched over HTTP", &self.catchups),
            ("reports", "Replica reports accepted", &self.reports),
        ];
        let mut text = String::new();
        for (name, help, counter) in counters {
            let value = counter.0.load(Ordering::Relaxed);
            push(&mut text, (&format!("{name}_total"), "counter", help), value);
        }
        for (name, help, value) in gauges {
            push(&mut text, (name, "gauge", help), *value);
        }
        text
    }
}

fn push(text: &mut String, (name, kind, help): (&str, &str, &str), value: u64) {
    // Writing to a string cannot fail.
    let _ = write!(
        text,
        "# HELP ddm_file_server_{name} {help}\n# TYPE ddm_file_server_{name} {kind}\nddm_file_server_{name} {value}\n"
    );
}
