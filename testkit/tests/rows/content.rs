//! Files to publish, and what is checked of their downloads.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::Output,
};

use anyhow::{Context as _, ensure};
use ddm_testkit::cluster::{Cluster, events};
use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};
use serde_json::Value;
use wire::Hasher;

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

/// SHA-256 of a file, in hex.
pub(crate) fn sha256(path: &Path) -> anyhow::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match std::io::Read::read(&mut file, &mut buffer)? {
            0 => return Ok(hasher.finish().to_string()),
            n => hasher.update(&buffer[..n]),
        }
    }
}

/// The last event of a kind that the client printed; the whole output when it failed.
pub(crate) fn event(output: &Output, kind: &str) -> anyhow::Result<Value> {
    ensure!(output.status.success(), "the client failed: {}", String::from_utf8_lossy(&output.stderr));
    let events = events(output)?;
    events.into_iter().rev().find(|event| event["event"] == kind).with_context(|| format!("no event {kind}"))
}

/// Whether the client told of such an event about a server.
pub(crate) fn told(output: &Output, kind: &str, server: &str) -> anyhow::Result<bool> {
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
