//! A terminal that a test types at and looks at.

use std::{
    path::Path,
    process::Stdio,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::Context as _;
use ddm_testkit::process::{eventually, tool};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::{Child, ChildStdin},
};

/// A program on a terminal of its own.
pub(crate) struct Terminal {
    pub(crate) child: Child,
    pub(crate) keys: ChildStdin,
    seen: Arc<Mutex<String>>,
}

impl Terminal {
    /// Starts a command, as `sh` reads it, in `folder`, which is its home too. `script` of util-linux gives it a terminal.
    pub(crate) fn open(line: &str, folder: &Path) -> anyhow::Result<Self> {
        // A shell that stayed would end by the SIGINT of a Ctrl-C that the program handled, as dash does.
        let line = format!("exec {line}");
        let mut script = tool("script");
        script.args(["--quiet", "--flush", "--return", "--command", &line, "/dev/null"]).env("SHELL", "/bin/sh");
        script.current_dir(folder).env("HOME", folder).env("TERM", "xterm");
        script.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = script.spawn().context("script, of util-linux")?;
        let keys = child.stdin.take().context("its input")?;
        let mut screen = child.stdout.take().context("its output")?;
        let seen = Arc::new(Mutex::new(String::new()));
        let sink = Arc::clone(&seen);
        tokio::spawn(async move {
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = screen.read(&mut buffer).await {
                sink.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..read]));
            }
        });
        Ok(Self { child, keys, seen })
    }

    pub(crate) async fn press(&mut self, keys: &str) -> anyhow::Result<()> {
        self.seen.lock().unwrap().clear();
        Ok(self.keys.write_all(keys.as_bytes()).await?)
    }

    /// Waits until the screen showed this since the last keys.
    pub(crate) async fn sees(&self, text: &str) -> anyhow::Result<()> {
        let seen = eventually(text, Duration::from_secs(20), async || Ok(self.screen().contains(text).then_some(())));
        seen.await.with_context(|| format!("the screen shows {:?}", self.screen()))
    }

    /// Returns the screen's output since the last keys.
    pub(crate) fn screen(&self) -> String {
        self.seen.lock().unwrap().clone()
    }
}
