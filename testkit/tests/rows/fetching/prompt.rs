//! The prompt completes, remembers, and is not blocked by what runs (S36).

use std::{
    os::unix::fs::PermissionsExt as _,
    process::Stdio,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::Context as _;
use ddm_testkit::{
    cluster::{Cluster, finish},
    process::eventually,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::{Child, ChildStdin, Command},
};

use super::{scene::near, web::Web};
use crate::content::{MIB, bytes};

/// The prompt on a terminal of its own.
struct Terminal {
    child: Child,
    keys: ChildStdin,
    seen: Arc<Mutex<String>>,
}

impl Terminal {
    /// `script` of util-linux gives a program a terminal.
    fn open(cluster: &Cluster) -> anyhow::Result<Self> {
        let client = cluster.client(&["shell"])?;
        let client = client.as_std();
        let words = std::iter::once(client.get_program()).chain(client.get_args());
        let line = words.map(|word| format!("'{}'", word.to_string_lossy())).collect::<Vec<_>>().join(" ");
        let mut script = Command::new("script");
        script.args(["--quiet", "--flush", "--return", "--command", &line, "/dev/null"]);
        script
            .current_dir(cluster.path(""))
            .env("HOME", cluster.path(""))
            .env("TERM", "xterm")
            .env_remove("XDG_STATE_HOME");
        script.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
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

    async fn press(&mut self, keys: &str) -> anyhow::Result<()> {
        self.seen.lock().unwrap().clear();
        Ok(self.keys.write_all(keys.as_bytes()).await?)
    }

    /// Waits until the screen showed this since the last keys.
    async fn sees(&self, text: &str) -> anyhow::Result<()> {
        let seen = eventually(text, Duration::from_secs(20), async || {
            Ok(self.seen.lock().unwrap().contains(text).then_some(()))
        });
        seen.await.with_context(|| format!("the screen shows {:?}", self.seen.lock().unwrap()))
    }
}

#[tokio::test]
async fn the_prompt_completes_remembers_and_is_never_blocked() -> anyhow::Result<()> {
    let cluster = Cluster::start(&near(&[])).await?;
    let web = Web::serve(bytes(1, 8 * MIB)).await?;
    web.limit(MIB);
    let mut terminal = Terminal::open(&cluster)?;
    terminal.sees("ddm> ").await?;
    terminal.press("serv\t").await?;
    terminal.sees("servers ").await?;
    terminal.press("\r").await?;
    terminal.sees("No live file servers").await?;

    terminal.press("clear\r").await?;
    terminal.sees("nor a command; help lists the commands.").await?;
    terminal.sees("ddm> ").await?;

    terminal.press(&format!("fetch --direct {}\r", web.url("plain", "slow.bin"))).await?;
    terminal.sees("[1] runs").await?;
    terminal.sees("ddm> ").await?;
    terminal.press("servers\r").await?;
    terminal.sees("No live file servers").await?;
    terminal.sees("ddm> ").await?;
    eventually("some of it came", Duration::from_secs(20), async || {
        let part = std::fs::metadata(cluster.path("slow.bin.part"));
        Ok(part.is_ok_and(|part| part.len() > MIB).then_some(()))
    })
    .await?;
    terminal.press("jobs\r").await?;
    terminal.sees("slow.bin: ").await?;
    assert!(cluster.path("slow.bin.part").exists() && !cluster.path("slow.bin").exists(), "it is still running");

    terminal.press("\u{1b}[A\u{1b}[A").await?;
    terminal.sees("servers").await?;
    terminal.press("\u{15}cancel 1\r").await?;
    terminal.sees("was ended").await?;
    web.limit(0);
    terminal.press(&format!("{}\r", web.url("plain", "quick.bin"))).await?;
    terminal.sees("[2] runs").await?;
    terminal.press("wait\r").await?;
    eventually("it is whole", Duration::from_secs(30), async || Ok(cluster.path("quick.bin").exists().then_some(())))
        .await?;
    terminal.sees("ddm> ").await?;
    terminal.press("exit\r").await?;
    let Terminal { child, keys, .. } = terminal;
    drop(keys);
    assert!(finish(child).await?.status.success());

    let history = cluster.path(".local/state/ddm/history");
    assert!(std::fs::read_to_string(&history)?.contains("cancel 1"));
    assert_eq!(std::fs::metadata(&history)?.permissions().mode() & 0o777, 0o600);
    assert!(std::fs::read(cluster.path("quick.bin"))? == bytes(1, 8 * MIB));
    Ok(())
}
