//! Remains of a cluster at its end: files, processes, and servers that still answer.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use reqwest::StatusCode;

use crate::{digest, process::Server};

/// Largest file that the judge hashes, in bytes. Larger ones are left to the rows that make them: hashing them again takes longer
/// than all else.
pub(super) const MAX_HASHED: u64 = 1 << 30;

/// Time limit for one answer. A server that does not answer is not judged: it was killed, paused or cut off on purpose.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Time limit for a revocation to arrive.
const REVOCATION_TIMEOUT: Duration = Duration::from_secs(10);
/// Time limit for a replica that was spoiled or lost to be complete again.
const REPAIR_TIMEOUT: Duration = Duration::from_secs(20);
/// Time limit for a killed process to be gone.
const EXIT_TIMEOUT: Duration = Duration::from_secs(10);

/// A cluster at its end.
pub(crate) struct Remains<'a> {
    pub(crate) folder: &'a Path,
    pub(crate) info: Option<&'a Server>,
    pub(crate) servers: Vec<Option<&'a Server>>,
    /// The admin's.
    pub(crate) session: &'a str,
}

impl Remains<'_> {
    /// The digest that the catalogue lists for a file, or its state instead; `None` without an answer.
    pub(super) fn listed(&self, id: &str) -> anyhow::Result<Option<String>> {
        let Some(info) = self.info.filter(|info| info.runs()) else { return Ok(None) };
        let url = format!("http://{}/v1/files/{id}?grant=false", info.address());
        let answer = ask(&url, self.session, true)?;
        Ok(match answer {
            // The session was ended on purpose.
            None | Some((StatusCode::UNAUTHORIZED, _)) => None,
            Some((StatusCode::OK, body)) => {
                let details: serde_json::Value = serde_json::from_slice(&body)?;
                Some(details["sha256"].as_str().unwrap_or("no digest").to_owned())
            }
            Some((status, _)) => Some(status.to_string()),
        })
    }

    /// Counts the disks that hold a whole file. Waits while running servers may still repair up to `enough`.
    pub(super) fn disks_with(&self, id: &str, wanted: &str, enough: usize) -> anyhow::Result<usize> {
        let mending = self.info.is_some_and(Server::runs) && self.servers.iter().flatten().any(|server| server.runs());
        let deadline = Instant::now() + if mending { REPAIR_TIMEOUT } else { Duration::ZERO };
        loop {
            let disks = disks_with(self.folder, id, wanted)?;
            if disks >= enough || Instant::now() >= deadline {
                return Ok(disks);
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Returns the servers that still serve bytes of `file` for `token`.
    pub(super) fn served(&self, file: &str, token: &str) -> anyhow::Result<Vec<String>> {
        let mut serving = Vec::new();
        for server in self.servers.iter().flatten().filter(|server| server.runs()) {
            let url = format!("http://{}/v1/files/{file}/content", server.address());
            let deadline = Instant::now() + REVOCATION_TIMEOUT;
            // Not the body: the status is enough.
            while ask(&url, token, false)?.is_some_and(|(status, _)| status.is_success()) {
                if Instant::now() > deadline {
                    serving.push(format!("{} gives {file} for a revoked token", server.address()));
                    break;
                }
                std::thread::sleep(Duration::from_millis(100));
            }
        }
        Ok(serving)
    }
}

/// Asks without the test's runtime, which may be the one that is waiting for this.
fn ask(url: &str, bearer: &str, whole: bool) -> anyhow::Result<Option<(StatusCode, Vec<u8>)>> {
    let asking = || -> anyhow::Result<_> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let client = reqwest::Client::builder().no_proxy().timeout(ANSWER_TIMEOUT).build()?;
        let asked = async {
            let answer = client.get(url).bearer_auth(bearer).send().await.ok()?;
            let status = answer.status();
            let body = if whole { answer.bytes().await.ok()?.to_vec() } else { Vec::new() };
            Some((status, body))
        };
        Ok(runtime.block_on(asked))
    };
    std::thread::scope(|scope| scope.spawn(asking).join())
        .map_err(|_| anyhow::anyhow!("a question ended in a panic"))?
}

/// Counts the file servers whose folders hold a blob of this content.
fn disks_with(folder: &Path, id: &str, wanted: &str) -> anyhow::Result<usize> {
    let mut disks = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("file-server-") && entry.file_type()?.is_dir() {
            let blobs = named(&entry.path().join("files"), id);
            disks += usize::from(blobs.iter().any(|blob| sha256(blob).is_ok_and(|found| found == wanted)));
        }
    }
    Ok(disks)
}

/// The files of a name anywhere below a folder.
fn named(folder: &Path, name: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .flat_map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => named(&entry.path(), name),
            Ok(kind) if kind.is_file() && entry.file_name() == name => vec![entry.path()],
            _ => Vec::new(),
        })
        .collect()
}

/// Returns the SHA-256 of a plain file that is not too large, in hex.
pub(super) fn sha256(path: &Path) -> anyhow::Result<String> {
    let metadata = std::fs::symlink_metadata(path)?;
    anyhow::ensure!(metadata.is_file() && metadata.len() <= MAX_HASHED, "not looked at");
    Ok(digest::sha256(path)?)
}

/// The processes of a cluster that outlive it. All that it started were killed just before.
pub(crate) fn leftovers(folder: &Path) -> Vec<String> {
    let deadline = Instant::now() + EXIT_TIMEOUT;
    loop {
        let left = running_in(folder);
        if left.is_empty() || Instant::now() > deadline {
            return left;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub(super) fn running_in(folder: &Path) -> Vec<String> {
    let wanted = folder.display().to_string();
    let own = std::process::id().to_string();
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let pid = entry.file_name().to_string_lossy().into_owned();
            let line = std::fs::read(entry.path().join("cmdline")).ok()?;
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            let ours = pid != own && pid.bytes().all(|byte| byte.is_ascii_digit()) && line.contains(&wanted);
            ours.then(|| format!("process {pid} was left behind: {line}"))
        })
        .collect()
}
