//! Files to publish, and what is checked of their downloads.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::Output,
    time::Duration,
};

use anyhow::{Context as _, ensure};
pub(crate) use ddm_testkit::digest::sha256;
use ddm_testkit::{
    cluster::{Cluster, events, finish},
    process::peak_resident,
};
use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};
use rustix::process::Pid;
use serde_json::Value;
use tokio::process::Child;

pub(crate) const MIB: u64 = 1 << 20;

/// Bytes that depend on the seed alone.
pub(crate) fn bytes(seed: u64, size: u64) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(size).unwrap()];
    SmallRng::seed_from_u64(seed).fill_bytes(&mut bytes);
    bytes
}

/// A file of such bytes in the cluster's folder.
pub(crate) fn file(cluster: &Cluster, name: &str, seed: u64, size: u64) -> anyhow::Result<PathBuf> {
    let path = cluster.path(name);
    std::fs::File::create(&path)?.write_all(&bytes(seed, size))?;
    Ok(path)
}

/// Waits for a child that a test started; returns also the highest resident memory, in bytes, that was seen meanwhile.
pub(crate) async fn finish_measured(child: Child) -> anyhow::Result<(Output, u64)> {
    let pid = Pid::from_raw(child.id().context("a process id")?.try_into()?).context("a process id")?;
    let mut ended = std::pin::pin!(finish(child));
    let mut peak = 0;
    loop {
        tokio::select! {
            output = &mut ended => return Ok((output?, peak)),
            () = tokio::time::sleep(Duration::from_millis(20)) => peak = peak.max(peak_resident(pid).unwrap_or(0)),
        }
    }
}

/// The last event of a kind that the client printed; the whole output when it failed.
pub(crate) fn event(output: &Output, kind: &str) -> anyhow::Result<Value> {
    let last = String::from_utf8_lossy(&output.stdout).lines().last().unwrap_or_default().to_owned();
    ensure!(output.status.success(), "the client failed: {}{last}", String::from_utf8_lossy(&output.stderr));
    let events = events(output)?;
    events.into_iter().rev().find(|event| event["event"] == kind).with_context(|| format!("no event {kind}"))
}

/// Returns true if the client reported such an event about a server.
pub(crate) fn has_event(output: &Output, kind: &str, server: &str) -> anyhow::Result<bool> {
    Ok(events(output)?.iter().any(|event| event["event"] == kind && event.to_string().contains(server)))
}

/// The report's row of one server.
pub(crate) fn source<'a>(done: &'a Value, server: &str) -> anyhow::Result<&'a Value> {
    let sources = done["report"]["sources"].as_array().context("sources")?;
    sources.iter().find(|source| source["server"] == server).with_context(|| format!("{server} in the report"))
}

/// A number of a JSON object.
pub(crate) fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// The names in a folder, sorted.
pub(crate) fn names(folder: &Path) -> anyhow::Result<Vec<String>> {
    let mut names: Vec<String> = std::fs::read_dir(folder)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<std::io::Result<_>>()?;
    names.sort();
    Ok(names)
}
