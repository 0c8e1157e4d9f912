//! Cost of a catalogue of a million files on a thousand servers, beside a small one, on real info-servers: see benchmarks/catalogue.

#![expect(
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a program that measures prints; JSON null is no panic"
)]

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use ddm_testkit::{
    cluster::{Cluster, Plan},
    fleet::Fleet,
    process::peak_resident,
};
use reqwest::Method;
use serde_json::{Value, json};
use wire::Zone;

/// Requests of a kind, one after the other, in each of the rounds.
const REQUESTS: usize = 400;
const ROUNDS: usize = 3;
/// A page of the list, so that both catalogues answer as much.
const PAGE: usize = 50;

struct Side {
    cluster: Cluster,
    fleet: Fleet,
    ids: Vec<String>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let mut number = |default: usize| args.next().map_or(Ok(default), |text| text.parse());
    let (servers, files) = (number(1000)?, number(1_000_000)?);
    let folder = args.next().map(PathBuf::from);
    let mut small = Side::start(3, PAGE, folder.clone()).await?;
    let mut large = Side::start(servers, files, folder).await?;
    // What the start of the servers left behind is not measured.
    tokio::time::sleep(Duration::from_secs(5)).await;
    for side in [&small, &large] {
        side.fleet.beats();
    }
    println!("{:<44} {:>9} {:>9} {:>9} {:>9} {:>6}", "", "small p50", "p99", "large p50", "p99", "ratio");
    for (name, ask) in questions() {
        let (mut few, mut many) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            few.extend(small.measure(&ask).await.context(name)?);
            many.extend(large.measure(&ask).await.context(name)?);
        }
        let [a, b, c, d] = [at(&mut few, 50), at(&mut few, 99), at(&mut many, 50), at(&mut many, 99)];
        println!("{name:<44} {a:>9.2} {b:>9.2} {c:>9.2} {d:>9.2} {:>6.2}", d / b);
    }
    for (name, side) in [("small", &small), ("large", &large)] {
        let mut beats = side.fleet.beats();
        let info = side.cluster.info.as_ref().context("an info-server")?;
        let (memory, failed, count) = (peak_resident(info.pid()?)? >> 20, beats.failed, beats.took.len());
        let (p50, p99) = (at(&mut beats.took, 50), at(&mut beats.took, 99));
        println!("{name}: {count} heartbeats p50 {p50:.2} ms, p99 {p99:.2} ms, {failed} failed; {memory} MiB at most");
    }
    Ok(())
}

/// One kind of request: its path for a file's id, and the body of a POST.
struct Question {
    path: Box<dyn Fn(&str) -> String>,
    body: Option<Value>,
}

fn questions() -> Vec<(&'static str, Question)> {
    let get = |path: &'static str| Question { path: Box::new(move |id| path.replace("{id}", id)), body: None };
    let new = json!({ "name": "fresh.bin", "size": 1000, "policy": { "replicas": 3 }, "quorum": 2 });
    vec![
        ("list, 50 files", get("/v1/files?limit=50")),
        ("details without a token", get("/v1/files/{id}?grant=false")),
        ("details with a token, synced", get("/v1/files/{id}")),
        ("replicas", get("/v1/files/{id}/replicas")),
        (
            "placement: announce a file, synced",
            Question { path: Box::new(|_| "/v1/files".to_owned()), body: Some(new) },
        ),
        ("search: a part that one name has", get("/v1/files?limit=50&q=0000033.")),
        ("search: a part that a quarter has", get("/v1/files?limit=50&q=-south-")),
        ("search: a part that none has", get("/v1/files?limit=50&q=nowhere")),
        ("search: two letters that all have", get("/v1/files?limit=50&q=t-")),
        ("search: two letters that none has", get("/v1/files?limit=50&q=qq")),
        ("metrics", get("/metrics")),
    ]
}

impl Side {
    async fn start(servers: usize, files: usize, folder: Option<PathBuf>) -> anyhow::Result<Self> {
        let mut cluster = Cluster::start(&Plan { folder, ..Plan::zones(&[]) }).await?;
        let secret = std::fs::read_to_string(cluster.path("info-server/join-secret"))?;
        let zones: Vec<Zone> = ["eu", "us", "ap", "af"].iter().map(|zone| zone.parse()).collect::<Result<_, _>>()?;
        let begun = Instant::now();
        let fleet = Fleet::start(cluster.info_url(), secret.trim(), &zones, servers).await?;
        println!("{servers} servers enrolled in {:.1?}", begun.elapsed());
        ensure!(cluster.info.take().context("an info-server")?.stop().await?.success(), "it did not stop well");
        fill(&cluster.path("info-server"), files)?;
        let begun = Instant::now();
        cluster.restart_info().await?;
        println!("started on {files} files in {:.1?}", begun.elapsed());
        let mut ids = Vec::new();
        let mut cursor = String::new();
        // From all over the catalogue is too long a way; from its newest pages is not what is in memory already.
        while ids.len() < REQUESTS {
            let page = cluster.get(&format!("/v1/files?limit=500&cursor={cursor}")).await?;
            let files = page["files"].as_array().context("a list")?;
            ids.extend(files.iter().filter_map(|file| file["id"].as_str()).map(str::to_owned));
            match page["next_cursor"].as_str() {
                Some(next) => next.clone_into(&mut cursor),
                None => break,
            }
        }
        Ok(Self { cluster, fleet, ids })
    }

    async fn measure(&mut self, question: &Question) -> anyhow::Result<Vec<Duration>> {
        let mut times = Vec::with_capacity(REQUESTS);
        for n in 0..REQUESTS {
            let path = (question.path)(&self.ids[n % self.ids.len()]);
            let request = match &question.body {
                Some(body) => self.cluster.request(Method::POST, &path).json(body),
                None => self.cluster.request(Method::GET, &path),
            };
            let begun = Instant::now();
            request.send().await?.error_for_status()?.bytes().await?;
            times.push(begun.elapsed());
        }
        Ok(times)
    }
}

/// Runs the generator beside this program.
fn fill(folder: &Path, files: usize) -> anyhow::Result<()> {
    let generator = std::env::current_exe()?.with_file_name("fill");
    let status = Command::new(&generator).arg(folder).arg(files.to_string()).status();
    ensure!(status.with_context(|| generator.display().to_string())?.success(), "the catalogue was not filled");
    Ok(())
}

/// A percentile in milliseconds.
fn at(times: &mut [Duration], part: usize) -> f64 {
    times.sort_unstable();
    let index = (times.len() * part / 100).min(times.len().saturating_sub(1));
    times.get(index).copied().unwrap_or_default().as_secs_f64() * 1e3
}
