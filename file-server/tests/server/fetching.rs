//! Spans of URLs: fetched from an origin, told, served, and gone when nobody wants them.

use std::{collections::VecDeque, time::Duration};

use reqwest::StatusCode;
use tempfile::TempDir;
use testkit::{
    process::eventually,
    rogue::{Behaviour, Rogue},
};
use wire::{
    Digest, FileId, JobId, Layout,
    event::{Fact, Stream},
    job::{Lease, Purpose, Reason, Span, Validator},
};

use crate::{
    info::{Info, Job},
    node::{Node, sample},
};

const MIB: usize = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(20);

/// A worker, an origin with a file, and a job whose spans are handed out as given.
struct Scene {
    info: Info,
    node: Node,
    origin: Rogue,
    bytes: Vec<u8>,
    job: JobId,
    file: FileId,
}

impl Scene {
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
        let scene = Self { info, node, origin, bytes, job, file };
        let leases = (1..).zip(spans).map(|(fence, span)| change(scene.lease(fence, *span))).collect();
        scene.info.told().jobs.insert(job, Job { leases, ..Job::default() });
        scene
    }

    fn lease(&self, fence: u64, span: [u32; 2]) -> Lease {
        let size = self.bytes.len() as u64;
        let etag = self.origin.url().path_segments().unwrap().nth(2).unwrap().to_owned();
        Lease {
            fence,
            span: Span::try_from(span).unwrap(),
            purpose: Purpose::Fetch,
            file: self.file,
            size,
            chunk_size: Layout::of(size).unwrap().chunk_size(),
            url: self.origin.url().as_str().parse().unwrap(),
            validator: Validator::Etag(format!("\"{etag}\"")),
            connections: 1,
            lease_s: 5,
        }
    }

    fn hint(&self) {
        self.info.publish(Stream::Zone("eu".parse().unwrap()), Fact::SpansWaiting { job: self.job });
    }

    /// Waits until what workers told of the job satisfies `enough`.
    async fn until(&self, enough: impl Fn(&Job) -> bool) {
        self.info.wait_until(|told| enough(&told.jobs[&self.job])).await;
    }

    fn expected(&self, n: u32) -> Digest {
        Digest::of(self.bytes.chunks(MIB).nth(n as usize).unwrap())
    }

    fn end(&self) {
        self.info.told().jobs.get_mut(&self.job).unwrap().over = true;
        self.info.publish(Stream::All, Fact::FileDeleted { file: self.file });
    }

    fn blobs(&self) -> usize {
        let partial = self.node.data.path().join("partial");
        let complete = self.node.place(self.file).exists();
        std::fs::read_dir(partial).unwrap().count() + usize::from(complete)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_are_fetched_told_and_served_and_gone_once_the_job_is() {
    let scene = Scene::begin(9, &[[0, 4], [6, 9]]).await;
    scene.hint();
    scene.until(|job| job.chunks().len() == 7 && job.open() == 0).await;
    let told = scene.info.told().jobs[&scene.job].chunks();
    for (n, digest) in told {
        assert_eq!(digest, scene.expected(n), "chunk {n}");
    }
    // One request for each span, and no byte twice.
    assert_eq!(scene.origin.asked().len(), 2);
    let fetched = 7 * MIB - 1000;
    assert_eq!(scene.origin.sent(), fetched as u64);
    let bytes: u64 = scene.info.told().jobs[&scene.job].reports.iter().map(|(_, report)| report.bytes).max().unwrap();
    assert!(bytes <= fetched as u64);

    let token = scene.info.download(scene.file);
    let last = scene.node.get(scene.file, &token).header("range", "bytes=7340032-").send().await.unwrap();
    assert_eq!(last.status(), StatusCode::PARTIAL_CONTENT);
    assert!(last.bytes().await.unwrap() == scene.bytes[7 * MIB..]);
    let absent = scene.node.get(scene.file, &token).header("range", "bytes=4194304-4194305").send().await.unwrap();
    assert_eq!(absent.status(), StatusCode::NOT_FOUND);
    let metrics = scene.node.metrics().await;
    assert!(metrics.contains(&format!("ddm_file_server_origin_bytes_total {fetched}\n")), "{metrics}");

    scene.end();
    eventually("nothing of it is left", PATIENCE, async || Ok((scene.blobs() == 0).then_some(()))).await.unwrap();
    scene.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_worker_tells_what_it_holds_instead_of_fetching_it() {
    let scene = Scene::begin(6, &[[0, 4]]).await;
    scene.hint();
    scene.until(|job| job.chunks().len() == 4 && job.open() == 0).await;
    let lease = scene.lease(9, [0, 6]);
    let sent = scene.origin.sent();
    let Scene { info, node, origin, bytes, job, file } = scene;
    let data = node.stop().await;
    info.told().jobs.insert(job, Job { leases: VecDeque::from([lease]), ..Job::default() });
    // Nobody hints: it asks about the jobs of which something is here.
    let more = ["--origin-allow".to_owned(), "127.0.0.0/8".to_owned()];
    let node = Node::start_with(&info.url, data, &more).await;
    info.wait_until(|told| told.jobs[&job].chunks().len() == 6 && told.jobs[&job].open() == 0).await;
    let (_, first) = info.told().jobs[&job].reports[0].clone();
    assert!(first.chunks.iter().map(|chunk| chunk.n).take(4).eq(0..4), "{first:?}");
    assert_eq!(origin.sent() - sent, (bytes.len() - 4 * MIB) as u64);
    // Nobody knows the job and the file any more.
    info.told().reconciled.insert(file, "unknown");
    info.told().jobs.get_mut(&job).unwrap().over = true;
    let left = || {
        std::fs::read_dir(node.data.path().join("partial")).unwrap().count() + usize::from(node.place(file).exists())
    };
    eventually("nothing of it is left", PATIENCE, async || Ok((left() == 0).then_some(()))).await.unwrap();
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_span_that_was_shortened_or_taken_away_is_not_fetched_to_its_end() {
    let scene = Scene::begin(24, &[[0, 12], [12, 24]]).await;
    scene.origin.set(Behaviour::Throttle { rate: 6 << 20 });
    {
        let mut told = scene.info.told();
        let job = told.jobs.get_mut(&scene.job).unwrap();
        job.cut.insert(1, 5);
        job.stale.insert(2);
    }
    scene.hint();
    scene.until(|job| job.claims >= 3 && job.open() == 0).await;
    let told = scene.info.told().jobs[&scene.job].chunks();
    assert!(told.keys().copied().eq(0..5), "{told:?}");
    // What was on its way when the end came nearer, or when the lease was found to be stale, is all that was wasted.
    assert!(scene.origin.sent() < 14 << 20, "{}", scene.origin.sent());
    scene.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_to_compare_are_hashed_and_not_kept() {
    let check = |lease| Lease { purpose: Purpose::Check, ..lease };
    let scene = Scene::with(3, &[[1, 3]], check, &["--origin-allow", "127.0.0.0/8"]).await;
    scene.hint();
    scene.until(|job| job.chunks().len() == 2 && job.open() == 0).await;
    let told = scene.info.told().jobs[&scene.job].chunks();
    assert_eq!(told[&2], scene.expected(2));
    assert_eq!(scene.blobs(), 0);
    scene.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_span_uses_as_many_connections_as_asked() {
    let four = |lease| Lease { connections: 4, ..lease };
    let scene = Scene::with(16, &[[0, 16]], four, &["--origin-allow", "127.0.0.0/8"]).await;
    scene.origin.set(Behaviour::Throttle { rate: 4 << 20 });
    scene.hint();
    scene.until(|job| job.chunks().len() == 16 && job.open() == 0).await;
    let asked = scene.origin.asked();
    let first = asked.first().unwrap().at;
    // At this rate no line is done with its first request within a second.
    let early = asked.iter().filter(|asked| asked.at < first + Duration::from_secs(1)).count();
    assert_eq!(early, 4, "{asked:?}");
    assert_eq!(scene.origin.sent(), scene.bytes.len() as u64);
    scene.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_breaks_costs_nothing_that_came() {
    let scene = Scene::begin(4, &[[0, 4]]).await;
    scene.origin.set(Behaviour::Reset { after: 700_000 });
    scene.hint();
    scene.until(|job| job.chunks().len() == 4 && job.open() == 0).await;
    assert!(scene.info.told().jobs[&scene.job].failures().is_empty());
    let asked: Vec<u64> = scene.origin.asked().iter().map(|asked| asked.range.start).collect();
    assert!(asked.len() >= 4 && asked.is_sorted_by(|one, next| one < next), "it goes on where it was: {asked:?}");
    scene.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_origin_is_told_by_its_class_and_nothing_of_it_counts() {
    let header = |name, value: &str| Behaviour::Header { name, value: Some(value.to_owned()) };
    for (behaviour, reason) in [
        (Behaviour::WrongEtag, Reason::Changed),
        (Behaviour::WholeFile, Reason::NoRanges),
        (Behaviour::WrongRange, Reason::Changed),
        (header("ETag", "W/\"x\""), Reason::Changed),
        (header("Content-Encoding", "gzip"), Reason::Garbled),
        (Behaviour::Status { code: 503, retry_after: Some(7) }, Reason::Busy),
        (Behaviour::Status { code: 429, retry_after: Some(7) }, Reason::Busy),
        (Behaviour::Status { code: 404, retry_after: None }, Reason::Refused),
        (Behaviour::Rubbish, Reason::Garbled),
        (Behaviour::Redirect("http://10.0.0.1/x".parse().unwrap()), Reason::NotPublic),
        (Behaviour::Truncate { after: 0 }, Reason::Unreachable),
    ] {
        let scene = Scene::begin(4, &[[1, 3]]).await;
        let retry = matches!(behaviour, Behaviour::Status { retry_after: Some(7), .. }).then_some(7);
        scene.origin.set(behaviour.clone());
        scene.hint();
        scene.until(|job| !job.failures().is_empty()).await;
        let failures = scene.info.told().jobs[&scene.job].failures();
        assert_eq!((failures[0].reason, failures[0].retry_after_s), (reason, retry), "{behaviour:?}");
        assert!(scene.info.told().jobs[&scene.job].chunks().is_empty(), "{behaviour:?}");
        scene.node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_public_is_not_even_asked() {
    let scene = Scene::with(4, &[[0, 2]], |lease| lease, &[]).await;
    scene.hint();
    scene.until(|job| !job.failures().is_empty()).await;
    assert_eq!(scene.info.told().jobs[&scene.job].failures()[0].reason, Reason::NotPublic);
    assert!(scene.origin.asked().is_empty());
    scene.node.stop().await;
}
