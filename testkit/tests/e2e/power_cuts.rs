//! P1, P2, P4, F6, F7: the power fails at any moment. What was answered by then is there afterwards, whatever became of all
//! that was not synced; and each answer comes after the syncs that it needs.

mod client;
mod file_server;
mod info_server;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use ddm_testkit::{
    cluster::STEP_TIMEOUT,
    power_cut::Recording,
    process::{Server, eventually},
};
use rustix::process::Signal;

/// Moments at which the power fails while chunks are uploaded; half as many more while an info-server answers, where most is promised:
/// 200 at the servers in all.
const CUTS: usize = 80;
/// Moments at which it fails around the end of a download.
const CLIENT_CUTS: usize = 200;

/// A copy of a folder from before it is worked in.
async fn copy(folder: &Path, to: PathBuf) -> anyhow::Result<PathBuf> {
    let copied = tokio::process::Command::new("cp").arg("-a").args([folder, &to]).status().await?;
    anyhow::ensure!(copied.success());
    Ok(to)
}

/// Kills a recorded server; what was recorded, once all of it is written down. It is stopped first: a call that a kill cuts off may or may
/// not have been carried out.
async fn ended(server: Server, trace: &Path, folder: &Path, before: &Path) -> anyhow::Result<Recording> {
    let pid = server.pid()?.as_raw_nonzero();
    server.signal(Signal::STOP)?;
    stopped(trace, pid.get()).await?;
    server.kill().await?;
    complete(trace, pid.get()).await?;
    let recording = Recording::read(trace, folder, before)?;
    recording.check(folder)?;
    Ok(recording)
}

/// Waits until every thread of a process has ended its call and stopped.
async fn stopped(trace: &Path, pid: i32) -> anyhow::Result<()> {
    eventually("all threads are stopped", STEP_TIMEOUT, async || {
        let text = std::fs::read_to_string(trace)?;
        let stopped = |line: &str| {
            let (thread, rest) = line.split_once(' ')?;
            rest.contains("--- stopped by SIGSTOP ---").then(|| thread.to_owned())
        };
        let stopped: BTreeSet<String> = text.lines().filter_map(stopped).collect();
        let mut threads = std::fs::read_dir(format!("/proc/{pid}/task"))?;
        let all = threads.all(|thread| thread.is_ok_and(|t| stopped.contains(&*t.file_name().to_string_lossy())));
        Ok(all.then_some(()))
    })
    .await
}

/// Waits until the last words about a process are written down.
async fn complete(trace: &Path, pid: i32) -> anyhow::Result<()> {
    let pid = pid.to_string();
    let last =
        |line: &str| line.split_once(' ').is_some_and(|(of, rest)| of == pid && rest.trim_start().starts_with("+++"));
    eventually("the recording is complete", STEP_TIMEOUT, async || {
        let text = std::fs::read_to_string(trace)?;
        // Text that is still being written may end within a line.
        Ok(text.lines().rev().take(100).any(last).then_some(()))
    })
    .await
}

/// Returns the mark by which a request is found in a recording.
fn mark(n: usize) -> String {
    format!("cut-mark-{n:03}.")
}
