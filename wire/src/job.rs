//! Collaborative downloads.
//!
//! A *job* splits an origin URL into *spans* of chunks. Its *workers* are file servers; each fetches spans under a *lease* with a
//! *fence* number. Its *requesters* are the processes that want the file; they download the chunks from the workers.

mod evidence;
mod info;
mod lease;
mod request;
mod state;

pub use evidence::VersionEvidence;
pub use info::{FetchedChunk, JobInfo, JobList, WorkerInfo, WorkerState};
pub use lease::{
    ChunkDigest, Lease, LeaseClaim, LeaseOffer, LeaseRenewal, LeaseReport, Span, SpanError, SpanFailure, SpanPurpose,
    Validator,
};
pub use request::{JobEventsQuery, NewJob, RequesterProgress, RequesterQuery};
pub use state::{Checked, JobReason, JobState};

/// Largest number of connections that one span may use at the origin.
pub const MAX_CONNECTIONS: u8 = 16;
/// Largest number of chunks in one [`LeaseReport`].
pub const MAX_REPORTED: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_spans_are_refused() {
        for bad in ["[1,1]", "[2,1]", "[0,16385]", "[0]", "[0,1,2]", "[-1,2]", "7"] {
            assert!(serde_json::from_str::<Span>(bad).is_err(), "{bad}");
        }
        let span: Span = serde_json::from_str("[3,16384]").unwrap();
        assert_eq!(serde_json::to_string(&span).unwrap(), "[3,16384]");
    }

    #[test]
    fn a_job_reads_as_documented() {
        let new: NewJob = serde_json::from_str(r#"{"url":"https://example.org/x"}"#).unwrap();
        assert_eq!((new.keep, new.connections, new.sha256), (false, None, None));
        assert!(serde_json::from_str::<NewJob>(r#"{"url":"https://example.org/x","sha":1}"#).is_err());
        let failure = SpanFailure { reason: JobReason::Busy, retry_after_s: Some(3) };
        assert_eq!(serde_json::to_string(&failure).unwrap(), r#"{"reason":"busy","retry_after_s":3}"#);
        let etag = Validator::Etag("\"x\"".to_owned());
        assert_eq!(serde_json::to_string(&etag).unwrap(), r#"{"etag":"\"x\""}"#);
    }
}
