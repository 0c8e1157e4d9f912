#![doc = include_str!("../README.md")]

mod blobs;
mod content;
mod disk;
mod error;
mod integrity;
mod metrics;
mod records;
mod replica_events;
mod volume;

pub use blobs::{
    blob::Blob,
    chunk_writer::{ChunkWriter, WrittenChunk},
    commit_queue::CommitQueue,
    directory::{Allocation, BlobDirectory},
    replica_sink::ReplicaSink,
    store::{BlobStore, StoreOptions},
    upload::ChunkReceipt,
};
pub use content::{
    body::{BodySource, RangeBody, Segment},
    outlet::{Outlet, ResponseControl},
    range_response::{RangeResponse, Representation, RequestConditions, decide},
    sendfile::{Sendfile, SendfileStream},
};
pub use disk::{run_blocking, with_disk_timeout};
pub use error::BlobError;
pub use integrity::{
    adoption::{Adoption, UnrecordedBlob},
    chunk_checks::{ChunkChecks, ReportReceipt, ReportedChunk},
    scrub::{CatalogueDigests, ChunkVerdict, ChunkVerifier},
    scrub_queue::ScrubQueue,
};
pub use metrics::StoreMetrics;
pub use records::{
    BlobRecord, ChunkRecords, CompletedFile, NewChunk, RecordedChunk, RecordsError, RecordsErrorKind, StoredFile,
};
pub use replica_events::ReplicaEvents;
pub use volume::{
    health::{VolumeHealth, VolumeState},
    reserve::Reserve,
};
