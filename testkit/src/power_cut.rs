//! A power cut, acted out: the system calls of a program are recorded with their data, and its folder is rebuilt as a disk could
//! hold it when the power fails at a given step. SIGKILL alone proves nothing of the kind: it keeps the page cache.
//!
//! Model of a disk after a power cut, as journaling file systems behave in one setting or another: a change counts for sure once a sync that began after it
//! has ended: the sync of the file for its bytes and length, that of the folder for names in it. Every other change that was begun may have
//! happened or not, in any order, and a write page by page of 4 KiB. A rename alone is never half done.
//!
//! Limits: written through a memory map or `sendfile` is not seen; [`Recording::check`] notices, as the folder in the end is another one
//! then. SQLite's `-shm` files are left out: they are written so, and SQLite makes them anew.

mod disk;
mod trace;

use std::{
    ops::Range,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};

use disk::{Disk, Fate};
use trace::{Call, Change, Step};

/// Calls that are recorded.
const CALLS: &str = "trace=openat,creat,mkdir,mkdirat,rename,renameat,renameat2,link,linkat,unlink,unlinkat,rmdir,write,writev,pwrite64,\
                     pwritev,pwritev2,ftruncate,truncate,fallocate,fsync,fdatasync,recvfrom,sendto,sendmsg";

/// All that one process did to a folder, and what it received and sent meanwhile.
#[derive(Debug)]
pub struct Recording {
    calls: Vec<Call>,
    /// Begins and ends of calls, in the order in which they were seen.
    steps: Vec<Step>,
    before: Disk,
}

impl Recording {
    /// The words before a command that record its system calls, from the start on.
    ///
    /// # Errors
    /// When `strace` is not installed.
    pub fn words(trace: &Path) -> anyhow::Result<Vec<String>> {
        let known = std::process::Command::new("strace").arg("-V").output();
        ensure!(known.is_ok(), "strace is needed: run ./test, or apt-get install strace");
        // As a grandchild, so that the process is the command's own.
        let words = ["strace", "-D", "-q", "-f", "-y", "-xx", "-s", "2000000", "--seccomp-bpf", "-e", CALLS, "-o"];
        Ok(words.into_iter().map(str::to_owned).chain([trace.display().to_string()]).collect())
    }

    /// Reads what was recorded in `trace` of a process that worked in `folder` and has ended. `before` is a copy of the folder from before
    /// its start; all of it counts as synced.
    ///
    /// # Errors
    /// When one of them cannot be read.
    pub fn read(trace: &Path, folder: &Path, before: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read(trace).with_context(|| trace.display().to_string())?;
        let (calls, steps) = trace::parse(&text, folder)?;
        Ok(Self { calls, steps, before: Disk::copy_of(before)? })
    }

    /// The number of steps.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// True when nothing was recorded.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// The first step after which bytes that hold `mark` have been received.
    pub fn received(&self, mark: &str) -> Option<usize> {
        self.steps.iter().position(|step| match (step, self.call(*step)) {
            (Step::End(_), Some(Change::Received { bytes, .. })) => contains(bytes, mark),
            _ => false,
        })
    }

    /// The first step at which bytes that hold `mark` are written to a socket or another pipe.
    pub fn sent(&self, mark: &str) -> Option<usize> {
        self.steps.iter().position(|step| match (step, self.call(*step)) {
            (Step::Begin(_), Some(Change::Sent { bytes, .. })) => contains(bytes, mark),
            _ => false,
        })
    }

    /// The step at which the request that holds `mark` is answered, and with which status: a peer may have read the answer from then on.
    pub fn answered(&self, mark: &str) -> Option<(usize, u16)> {
        let asked = self.received(mark)?;
        let Some(Change::Received { socket: requester, .. }) = self.steps.get(asked).and_then(|step| self.call(*step))
        else {
            return None;
        };
        self.steps.iter().enumerate().skip(asked).find_map(|(at, step)| match (step, self.call(*step)) {
            (Step::Begin(_), Some(Change::Sent { socket, bytes })) if socket == requester => {
                let status = bytes.strip_prefix(b"HTTP/1.1 ")?.get(..3)?;
                Some((at, std::str::from_utf8(status).ok()?.parse().ok()?))
            }
            _ => None,
        })
    }

    /// The changes begun within `steps` that a power cut at its end could undo, in words.
    pub fn unsynced(&self, steps: Range<usize>) -> Vec<String> {
        let disk = self.replay(steps.end);
        disk.unsynced(|call| self.steps.get(steps.clone()).is_some_and(|steps| steps.contains(&Step::Begin(call))))
    }

    /// The files and folders with changes begun within `steps` that are synced at its end, relative to the folder.
    pub fn synced(&self, steps: Range<usize>) -> Vec<PathBuf> {
        let (first, last) = (steps.start, steps.end);
        let mut found: Vec<PathBuf> = Vec::new();
        for step in self.steps.get(first..last).unwrap_or_default() {
            if let (Step::End(_), Some(Change::Sync(path))) = (step, self.call(*step)) {
                found.push(path.clone());
            }
        }
        found.sort();
        found.dedup();
        found
    }

    /// Steps within `steps`, `count` of them drawn by `seed`, in their order.
    pub fn cuts(&self, steps: Range<usize>, count: usize, seed: u64) -> Vec<usize> {
        let mut random = SmallRng::seed_from_u64(seed);
        let mut cuts: Vec<usize> = (0..count).map(|_| random.random_range(steps.clone())).collect();
        cuts.sort_unstable();
        cuts
    }

    /// Writes the folder into `target` as the disk may hold it when the power fails just after `cut` steps. Of what was not synced by then,
    /// nothing is there, all of it, or some: `seed` decides.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn rebuild(&self, cut: usize, seed: u64, target: &Path) -> anyhow::Result<()> {
        let mut random = SmallRng::seed_from_u64(seed);
        let fate = match random.random_range(0..4) {
            0 => Fate::Lost,
            1 => Fate::Kept,
            _ => Fate::Drawn(random.random_range(0.1..0.9)),
        };
        self.replay(cut).write(target, fate, &mut random)
    }

    /// Compares the recording with the folder in the end: what was not seen is not judged either.
    ///
    /// # Errors
    /// The difference, in words.
    pub fn check(&self, folder: &Path) -> anyhow::Result<()> {
        let rebuilt = tempfile::tempdir()?;
        self.replay(self.steps.len()).write(rebuilt.path(), Fate::Kept, &mut SmallRng::seed_from_u64(0))?;
        let (here, there) = (disk::files(rebuilt.path())?, disk::files(folder)?);
        ensure!(here == there, "names differ: recorded {here:?}, there are {there:?}");
        for name in here {
            let same = std::fs::read(rebuilt.path().join(&name))? == std::fs::read(folder.join(&name))?;
            ensure!(same, "{} holds something else than was recorded", name.display());
        }
        Ok(())
    }

    fn call(&self, step: Step) -> Option<&Change> {
        let (Step::Begin(call) | Step::End(call)) = step;
        self.calls.get(call).map(|call| &call.change)
    }

    /// The disk after so many steps.
    fn replay(&self, steps: usize) -> Disk {
        let mut disk = self.before.clone();
        for step in self.steps.iter().take(steps) {
            match step {
                Step::Begin(n) => self.calls.get(*n).into_iter().for_each(|call| disk.begin(*n, &call.change)),
                Step::End(n) => self.calls.get(*n).into_iter().for_each(|call| disk.end(*n, call)),
            }
        }
        disk
    }
}

fn contains(bytes: &[u8], mark: &str) -> bool {
    bytes.windows(mark.len()).any(|part| part == mark.as_bytes())
}

#[cfg(test)]
mod tests;
