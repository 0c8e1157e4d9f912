//! System calls that fail as told: `strace` gives them an error instead of carrying them out.

use std::{ffi::OsString, path::PathBuf, process::Stdio, time::Duration};

use anyhow::{Context as _, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    time::timeout,
};

const ATTACH_TIMEOUT: Duration = Duration::from_secs(20);

/// Injected failures: the calls, their error, and their occurrences. Each thread counts its own calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failing {
    /// Names of calls with commas between, such as [`Self::SYNCS`].
    pub calls: &'static str,
    /// Name of the error, such as `EIO` or `ENOSPC`; `EIO:delay_enter=15000000` comes after so many microseconds.
    pub error: &'static str,
    /// Occurrences that fail: `3` the third, `3+` the third and all later ones, `1+2` every other one.
    pub when: String,
    /// File or folder whose calls fail; all calls without one.
    pub path: Option<PathBuf>,
}

impl Failing {
    /// System calls that make written bytes durable.
    pub const SYNCS: &str = "fsync,fdatasync,sync_file_range,msync";
    /// System calls that write bytes.
    pub const WRITES: &str = "write,pwrite64,pwritev,pwritev2,writev";
    /// System calls that give a file its name.
    pub const RENAMES: &str = "rename,renameat,renameat2,link,linkat";

    /// Creates failures of these calls, whatever the file.
    pub fn new(calls: &'static str, error: &'static str, when: &str) -> Self {
        Self { calls, error, when: when.to_owned(), path: None }
    }

    fn options(&self) -> Vec<OsString> {
        let inject = format!("inject={}:error={}:when={}", self.calls, self.error, self.when);
        let trace = format!("trace={}", self.calls);
        let mut options: Vec<OsString> = ["-f", "-e", &trace, "-e", &inject].map(OsString::from).to_vec();
        options.extend(self.path.iter().flat_map(|path| [OsString::from("-P"), path.clone().into_os_string()]));
        options
    }

    /// The words before a command whose calls are to fail. `strace` becomes the grandchild, so that the process is the
    /// command's own.
    pub(super) fn prefix(&self) -> Vec<OsString> {
        let mut words: Vec<OsString> = ["strace", "-D", "-qq", "-o", "/dev/null"].map(OsString::from).to_vec();
        words.extend(self.options());
        words
    }

    /// Lets calls of a running process fail until the guard is detached or dropped.
    ///
    /// # Errors
    /// When `strace` is not installed, or may not trace.
    pub async fn attach(&self, pid: Pid) -> anyhow::Result<Attached> {
        let mut strace = Command::new("strace");
        strace.args(self.options()).args(["-o", "/dev/null", "-p", &pid.as_raw_nonzero().to_string()]);
        strace.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = strace.spawn().context("strace is needed: run ./test, or apt-get install strace")?;
        let mut said = BufReader::new(child.stderr.take().context("its words")?).lines();
        let line =
            timeout(ATTACH_TIMEOUT, said.next_line()).await.context("strace does not attach")??.unwrap_or_default();
        ensure!(line.contains("attached"), "strace cannot attach: {line}");
        // What it says later must not block it.
        tokio::spawn(async move { while let Ok(Some(_)) = said.next_line().await {} });
        Ok(Attached(child))
    }
}

/// Calls fail while this lives.
#[derive(Debug)]
pub struct Attached(Child);

impl Attached {
    /// Lets all calls succeed again, and waits until that is so.
    ///
    /// # Errors
    /// When `strace` does not end.
    pub async fn detach(mut self) -> anyhow::Result<()> {
        if let Some(pid) = self.0.id().and_then(|pid| Pid::from_raw(pid.try_into().ok()?)) {
            kill_process(pid, Signal::TERM)?;
        }
        timeout(ATTACH_TIMEOUT, self.0.wait()).await.context("strace does not end")??;
        Ok(())
    }
}
