//! Spans of URLs: fetched from an origin, reported, served, and removed with their job.

use std::{collections::VecDeque, time::Duration};

use reqwest::StatusCode;
use tempfile::TempDir;
use testkit::{
    process::eventually,
    rogue::{Behaviour, Rogue},
};
use wire::{
    ChunkLayout, Digest, FileId, JobId,
    event::{EventPayload, Stream},
    job::{JobReason, Lease, Span, SpanPurpose, Validator},
};

use crate::{
    info::{Info, Job},
    node::{Node, sample},
};

const MIB: usize = 1 << 20;
const EVENTUALLY_TIMEOUT: Duration = Duration::from_secs(20);

/// A worker, an origin with a file, and a job whose spans are handed out as given.
struct Fixture {
    info: Info,
    node: Node,
    origin: Rogue,
    bytes: Vec<u8>,
    job: JobId,
    file: FileId,
}

impl Fixture {
    async fn begin(chunks: usize, spans: &[[u32; 2]]) -> Self {
        Self::with(chunks, spans, |lease| lease, &["--origin-allow", "127.0.0.0/8"]).await
    }

    async fn with(chunks: usize, spans: &[[u32; 2]], change: impl Fn(Lease) -> Lease, more: &[&str]) -> Self {
        let bytes = sample(chunks * MIB - 1000);
        let info = Info::start().await;
        let more: Vec<String> = more.iter().map(|arg| (*arg).to_owned()).collect();
        let node = Node::start_with(&info.url, TempDir::new().unwrap(), &more).await;
        let origin = Rogue::start(FileId::new(), bytes.clone().into()).await.unwrap();
        let (job, file) = (JobId::new(), FileId::new());
        let fixture = Self { info, node, origin, bytes, job, file };
        let leases = (1..).zip(spans).map(|(fence, span)| change(fixture.lease(fence, *span))).collect();
        fixture.info.received().jobs.insert(job, Job { leases, ..Job::default() });
        fixture
    }

    fn lease(&self, fence: u64, span: [u32; 2]) -> Lease {
        let size = self.bytes.len() as u64;
        let etag = self.origin.url().path_segments().unwrap().nth(2).unwrap().to_owned();
        Lease {
            fence,
            span: Span::try_from(span).unwrap(),
            purpose: SpanPurpose::Fetch,
            file: self.file,
            size,
            chunk_size: ChunkLayout::of(size).unwrap().chunk_size(),
            url: self.origin.url().as_str().parse().unwrap(),
            validator: Validator::Etag(format!("\"{etag}\"")),
            connections: 1,
            lease_s: 5,
        }
    }

    fn hint(&self) {
        self.info.publish(Stream::Zone("eu".parse().unwrap()), EventPayload::SpansWaiting { job: self.job });
    }

    /// Waits until the reports on the job satisfy `enough`.
    async fn until(&self, enough: impl Fn(&Job) -> bool) {
        self.info.wait_until(|received| enough(&received.jobs[&self.job])).await;
    }

    fn expected(&self, n: u32) -> Digest {
        Digest::of(self.bytes.chunks(MIB).nth(n as usize).unwrap())
    }

    fn end(&self) {
        self.info.received().jobs.get_mut(&self.job).unwrap().over = true;
        self.info.publish(Stream::All, EventPayload::FileDeleted { file: self.file });
    }

    fn blobs(&self) -> usize {
        self.node.partial_blobs() + usize::from(self.node.place(self.file).exists())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_are_fetched_reported_served_and_removed_with_their_job() {
    let fixture = Fixture::begin(9, &[[0, 4], [6, 9]]).await;
    fixture.hint();
    fixture.until(|job| job.chunks().len() == 7 && job.open() == 0).await;
    let received = fixture.info.received().jobs[&fixture.job].chunks();
    for (n, digest) in received {
        assert_eq!(digest, fixture.expected(n), "chunk {n}");
    }
    // One request for each span, and no byte twice.
    assert_eq!(fixture.origin.asked().len(), 2);
    let fetched = 7 * MIB - 1000;
    assert_eq!(fixture.origin.sent(), fetched as u64);
    let bytes: u64 =
        fixture.info.received().jobs[&fixture.job].reports.iter().map(|(_, report)| report.bytes).max().unwrap();
    assert!(bytes <= fetched as u64);

    let token = fixture.info.download(fixture.file);
    let last = fixture.node.get(fixture.file, &token).header("range", "bytes=7340032-").send().await.unwrap();
    assert_eq!(last.status(), StatusCode::PARTIAL_CONTENT);
    assert!(last.bytes().await.unwrap() == fixture.bytes[7 * MIB..]);
    let absent = fixture.node.get(fixture.file, &token).header("range", "bytes=4194304-4194305").send().await.unwrap();
    assert_eq!(absent.status(), StatusCode::NOT_FOUND);
    let metrics = fixture.node.metrics().await;
    assert!(metrics.contains(&format!("ddm_file_server_origin_bytes_total {fetched}\n")), "{metrics}");

    fixture.end();
    eventually("nothing of it is left", EVENTUALLY_TIMEOUT, async || Ok((fixture.blobs() == 0).then_some(())))
        .await
        .unwrap();
    fixture.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_worker_reports_stored_chunks_instead_of_fetching_them() {
    let fixture = Fixture::begin(6, &[[0, 4]]).await;
    fixture.hint();
    fixture.until(|job| job.chunks().len() == 4 && job.open() == 0).await;
    let lease = fixture.lease(9, [0, 6]);
    let sent = fixture.origin.sent();
    let Fixture { info, node, origin, bytes, job, file } = fixture;
    let data = node.stop().await;
    info.received().jobs.insert(job, Job { leases: VecDeque::from([lease]), ..Job::default() });
    // Without a hint: it claims work on the jobs of which it stores chunks.
    let more = ["--origin-allow".to_owned(), "127.0.0.0/8".to_owned()];
    let node = Node::start_with(&info.url, data, &more).await;
    info.wait_until(|received| received.jobs[&job].chunks().len() == 6 && received.jobs[&job].open() == 0).await;
    let (_, first) = info.received().jobs[&job].reports[0].clone();
    assert!(first.chunks.iter().map(|chunk| chunk.n).take(4).eq(0..4), "{first:?}");
    assert_eq!(origin.sent() - sent, (bytes.len() - 4 * MIB) as u64);
    // The job and the file no longer exist.
    info.received().reconciled.insert(file, "unknown");
    info.received().jobs.get_mut(&job).unwrap().over = true;
    let left = || node.partial_blobs() + usize::from(node.place(file).exists());
    eventually("nothing of it is left", EVENTUALLY_TIMEOUT, async || Ok((left() == 0).then_some(()))).await.unwrap();
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncated_or_stolen_span_is_not_fetched_to_its_end() {
    let fixture = Fixture::begin(24, &[[0, 12], [12, 24]]).await;
    fixture.origin.set(Behaviour::Throttle { rate: 6 << 20 });
    {
        let mut received = fixture.info.received();
        let job = received.jobs.get_mut(&fixture.job).unwrap();
        job.cut.insert(1, 5);
        job.stale.insert(2);
    }
    fixture.hint();
    fixture.until(|job| job.claims >= 3 && job.open() == 0).await;
    let received = fixture.info.received().jobs[&fixture.job].chunks();
    assert!(received.keys().copied().eq(0..5), "{received:?}");
    // What was on its way when the end came nearer, or when the lease was found to be stale, is all that was wasted.
    assert!(fixture.origin.sent() < 14 << 20, "{}", fixture.origin.sent());
    fixture.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_to_compare_are_hashed_and_not_kept() {
    let check = |lease| Lease { purpose: SpanPurpose::Check, ..lease };
    let fixture = Fixture::with(3, &[[1, 3]], check, &["--origin-allow", "127.0.0.0/8"]).await;
    fixture.hint();
    fixture.until(|job| job.chunks().len() == 2 && job.open() == 0).await;
    let received = fixture.info.received().jobs[&fixture.job].chunks();
    assert_eq!(received[&2], fixture.expected(2));
    assert_eq!(fixture.blobs(), 0);
    fixture.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_span_uses_the_requested_number_of_connections() {
    let four = |lease| Lease { connections: 4, ..lease };
    let fixture = Fixture::with(16, &[[0, 16]], four, &["--origin-allow", "127.0.0.0/8"]).await;
    fixture.origin.set(Behaviour::Throttle { rate: 4 << 20 });
    fixture.hint();
    fixture.until(|job| job.chunks().len() == 16 && job.open() == 0).await;
    let asked = fixture.origin.asked();
    let first = asked.first().unwrap().at;
    // At this rate no line is done with its first request within a second.
    let early = asked.iter().filter(|asked| asked.at < first + Duration::from_secs(1)).count();
    assert_eq!(early, 4, "{asked:?}");
    assert_eq!(fixture.origin.sent(), fixture.bytes.len() as u64);
    fixture.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_the_origin_refuses_leaves_its_chunks_to_one_that_it_serves() {
    let four = |lease| Lease { connections: 4, ..lease };
    let fixture = Fixture::with(12, &[[0, 12]], four, &["--origin-allow", "127.0.0.0/8"]).await;
    fixture.origin.set(Behaviour::OneAtATime { rate: 8 << 20 });
    fixture.hint();
    fixture.until(|job| job.chunks().len() == 12 && job.open() == 0).await;
    let received = fixture.info.received().jobs[&fixture.job].chunks();
    assert!(received.into_iter().all(|(n, digest)| digest == fixture.expected(n)));
    assert!(fixture.info.received().jobs[&fixture.job].failures().is_empty(), "the span is not given back");
    fixture.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_connection_loses_no_received_bytes() {
    let fixture = Fixture::begin(4, &[[0, 4]]).await;
    fixture.origin.set(Behaviour::Reset { after: 700_000 });
    fixture.hint();
    fixture.until(|job| job.chunks().len() == 4 && job.open() == 0).await;
    assert!(fixture.info.received().jobs[&fixture.job].failures().is_empty());
    let asked: Vec<u64> = fixture.origin.asked().iter().map(|asked| asked.range.start).collect();
    assert!(asked.len() >= 4 && asked.is_sorted_by(|one, next| one < next), "it goes on where it was: {asked:?}");
    fixture.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_origin_is_reported_by_its_class_and_none_of_its_bytes_count() {
    let header = |name, value: &str| Behaviour::Header { name, value: Some(value.to_owned()) };
    for (behaviour, reason) in [
        (Behaviour::WrongEtag, JobReason::Changed),
        (Behaviour::WholeFile, JobReason::NoRanges),
        (Behaviour::WrongRange, JobReason::Changed),
        (header("ETag", "W/\"x\""), JobReason::Changed),
        (header("Content-Encoding", "gzip"), JobReason::Garbled),
        (Behaviour::Status { code: 503, retry_after: Some(7) }, JobReason::Busy),
        (Behaviour::Status { code: 429, retry_after: Some(7) }, JobReason::Busy),
        (Behaviour::Status { code: 404, retry_after: None }, JobReason::Refused),
        (Behaviour::Rubbish, JobReason::Garbled),
        (Behaviour::Redirect("http://10.0.0.1/x".parse().unwrap()), JobReason::NotPublic),
        (Behaviour::Truncate { after: 0 }, JobReason::Unreachable),
    ] {
        let fixture = Fixture::begin(4, &[[1, 3]]).await;
        let retry = matches!(behaviour, Behaviour::Status { retry_after: Some(7), .. }).then_some(7);
        fixture.origin.set(behaviour.clone());
        fixture.hint();
        fixture.until(|job| !job.failures().is_empty()).await;
        let failures = fixture.info.received().jobs[&fixture.job].failures();
        assert_eq!((failures[0].reason, failures[0].retry_after_s), (reason, retry), "{behaviour:?}");
        assert!(fixture.info.received().jobs[&fixture.job].chunks().is_empty(), "{behaviour:?}");
        fixture.node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn private_addresses_get_no_request() {
    let fixture = Fixture::with(4, &[[0, 2]], |lease| lease, &[]).await;
    fixture.hint();
    fixture.until(|job| !job.failures().is_empty()).await;
    assert_eq!(fixture.info.received().jobs[&fixture.job].failures()[0].reason, JobReason::NotPublic);
    assert!(fixture.origin.asked().is_empty());
    fixture.node.stop().await;
}
