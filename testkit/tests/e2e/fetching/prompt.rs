//! The prompt completes, remembers, and is not blocked by what runs (S36).

use std::{os::unix::fs::PermissionsExt as _, time::Duration};

use ddm_testkit::{
    cluster::{Cluster, finish},
    process::eventually,
};

use super::{fixture::near, web::Web};
use crate::{
    content::{MIB, bytes},
    terminal::Terminal,
};

/// The prompt on a terminal of its own.
fn open(cluster: &Cluster) -> anyhow::Result<Terminal> {
    let client = cluster.client(&["shell"])?;
    let client = client.as_std();
    let words = std::iter::once(client.get_program()).chain(client.get_args());
    let line = words.map(|word| format!("'{}'", word.to_string_lossy())).collect::<Vec<_>>().join(" ");
    Terminal::open(&line, &cluster.path(""))
}

#[tokio::test]
async fn the_prompt_completes_remembers_and_is_never_blocked() -> anyhow::Result<()> {
    let cluster = Cluster::start(&near(&[])).await?;
    let web = Web::serve(bytes(1, 8 * MIB)).await?;
    web.limit(MIB / 2);
    let mut terminal = open(&cluster)?;
    terminal.sees("ddm> ").await?;
    terminal.press("serv\t").await?;
    terminal.sees("servers ").await?;
    terminal.press("\r").await?;
    terminal.sees("No live file servers").await?;

    // Options of every command hold for the line that names them.
    terminal.press("servers --info http://127.0.0.1:9\r").await?;
    terminal.sees("the info-server http://127.0.0.1:9/ does not answer").await?;
    terminal.sees("ddm> ").await?;
    terminal.press("list --json --log debug\r").await?;
    terminal.sees("the log is that of the whole prompt").await?;
    terminal.press("sessions --json\r").await?;
    terminal.sees("{\"").await?;
    terminal.press("servers\r").await?;
    terminal.sees("No live file servers").await?;

    terminal.press("clear\r").await?;
    terminal.sees("URL or command; type help for a list.").await?;
    terminal.sees("ddm> ").await?;

    terminal.press(&format!("fetch --direct {}\r", web.url("plain", "slow.bin"))).await?;
    terminal.sees("[1] started").await?;
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

    // Ctrl-C ends the waiting, not what is waited for, and not the prompt.
    terminal.press("wait 1\r").await?;
    terminal.sees("Ctrl-C stops waiting").await?;
    terminal.press("\u{3}").await?;
    terminal.sees("Stopped waiting").await?;
    terminal.sees("ddm> ").await?;
    terminal.press("jobs\r").await?;
    terminal.sees("slow.bin: ").await?;

    terminal.press("\u{1b}[A\u{1b}[A\u{1b}[A").await?;
    terminal.sees("jobs").await?;
    terminal.press("\u{15}cancel 1\r").await?;
    terminal.sees("was cancelled").await?;
    web.limit(0);
    terminal.press(&format!("{}\r", web.url("plain", "quick.bin"))).await?;
    terminal.sees("[2] started").await?;
    // What is typed meanwhile is kept.
    terminal.press("wait\rexit\r").await?;
    eventually("it is whole", Duration::from_secs(30), async || Ok(cluster.path("quick.bin").exists().then_some(())))
        .await?;
    // Its input stays open: `script` would close the terminal early.
    let Terminal { child, keys: _keys, .. } = terminal;
    assert_eq!(finish(child).await?.status.code(), Some(0));

    let history = cluster.path(".local/state/ddm/history");
    assert!(std::fs::read_to_string(&history)?.contains("cancel 1"));
    assert_eq!(std::fs::metadata(&history)?.permissions().mode() & 0o777, 0o600);
    assert!(std::fs::read(cluster.path("quick.bin"))? == bytes(1, 8 * MIB));
    Ok(())
}
