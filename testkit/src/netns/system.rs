//! The system's tools for namespaces, and what dead tests left behind.

use std::process::Command;

use anyhow::{Context as _, ensure};
use rustix::process::{Pid, Signal, kill_process};

const PREFIX: &str = "ddm-";

/// The name of the `count`-th network of this process.
pub(super) fn own_name(count: u32) -> String {
    format!("{PREFIX}{}-{count}", std::process::id())
}

/// Runs `ip` and returns what it printed.
pub(super) fn ip(args: &[&str]) -> anyhow::Result<String> {
    output(Command::new("ip").args(args)).with_context(|| format!("ip {}", args.join(" ")))
}

/// Runs a command in a namespace; what it printed.
pub(super) fn exec(namespace: &str, command: &[&str]) -> anyhow::Result<String> {
    let mut words = vec!["netns", "exec", namespace];
    words.extend(command);
    ip(&words)
}

/// Runs a program in a namespace.
pub(super) fn run(namespace: &str, program: &str, args: &[&str]) -> anyhow::Result<()> {
    let mut words = vec![program];
    words.extend(args);
    exec(namespace, &words).map(drop)
}

fn output(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn names() -> anyhow::Result<Vec<String>> {
    let list = ip(&["netns", "list"])?;
    Ok(list.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect())
}

/// Removes the networks of tests that are not there any more.
pub(super) fn sweep() -> anyhow::Result<()> {
    for name in names()? {
        let pid = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        if pid.is_some_and(|pid| !std::path::Path::new(&format!("/proc/{pid}")).exists()) {
            eprintln!("removing {name}, left by a test that died");
            // Another test may be sweeping, too.
            let _ = remove_one(&name);
        }
    }
    Ok(())
}

/// Removes all namespaces of a network, and what runs in them.
pub(super) fn remove(network: &str) -> anyhow::Result<()> {
    let within = format!("{network}-");
    for name in names()?.into_iter().filter(|name| name.starts_with(&within)) {
        remove_one(&name)?;
    }
    Ok(())
}

fn remove_one(namespace: &str) -> anyhow::Result<()> {
    for line in ip(&["netns", "pids", namespace])?.lines() {
        if let Some(pid) = line.trim().parse().ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
    ip(&["netns", "del", namespace]).map(drop)
}
