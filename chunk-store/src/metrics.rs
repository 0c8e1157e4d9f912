//! Counters of a store. The owner registers them under its own names.

use prometheus_client::metrics::counter::Counter;

/// Counters of one store. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct StoreMetrics {
    /// Syncs of blobs.
    pub syncs: Counter,
    /// Reads for responses that had to wait for the disk.
    pub cold_reads: Counter,
    /// Bytes of content handed to connections.
    pub content_bytes: Counter,
    /// Uploaded chunks that were verified and synced.
    pub upload_chunks: Counter,
    /// Bytes received for uploaded chunks.
    pub upload_bytes: Counter,
    /// Uploaded chunks that did not match their digest.
    pub upload_mismatches: Counter,
    /// Replicated chunks that were verified.
    pub replicated_chunks: Counter,
    /// Bytes received for replicated chunks.
    pub replicated_bytes: Counter,
    /// Bytes read again and hashed.
    pub scrubbed_bytes: Counter,
    /// Chunks found corrupt on disk.
    pub corrupt_chunks: Counter,
    /// Recorded digests that were wrong, of chunks that were intact.
    pub corrected_digests: Counter,
    /// Files whose bytes were gone from the disk.
    pub lost_files: Counter,
}
