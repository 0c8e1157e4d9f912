//! Promises of the short commands: they end at a signal, wait as long as their option says, and overwrite nothing.

use std::{fs, os::unix::fs::symlink, path::Path, process::Stdio, time::Duration};

use anyhow::{Context as _, bail};
use ddm_testkit::{
    cluster::finish,
    process::{Failing, Surroundings, eventually, program},
    rogue::catalogue::{RogueInfoServer, ScriptedAnswer},
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tokio::process::{Child, Command};
use wire::FileId;

use crate::{
    content::names,
    hostile::fixture::{said, tree},
    terminal::Terminal,
};

/// Time limit for a command to end at a signal; the machine may be busy.
const AT_ONCE: Duration = Duration::from_secs(2);
const STATUS_TIMEOUT: Duration = Duration::from_secs(20);

/// The client in a folder of its own, for an info-server with scripted answers.
fn client(home: &Path, info_server: &RogueInfoServer, failing: Option<&Failing>) -> anyhow::Result<Command> {
    let mut client = Surroundings { failing, ..Surroundings::default() }.command("ddm-client")?;
    client.current_dir(home).env("HOME", home).args(["--info", &info_server.url()]);
    client.stdout(Stdio::piped()).stderr(Stdio::piped());
    Ok(client)
}

fn pid(child: &Child) -> anyhow::Result<Pid> {
    Pid::from_raw(child.id().context("it has ended")?.try_into()?).context("a process id")
}

/// Waits until a process has a handler of its own for a signal.
async fn handles(pid: Pid, signal: Signal) -> anyhow::Result<()> {
    let bit = 1_u64 << (signal.as_raw() - 1);
    eventually("it handles the signal", STATUS_TIMEOUT, async || {
        let status = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero()))?;
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).context("the signals it handles")?;
        Ok((u64::from_str_radix(caught.trim(), 16)? & bit != 0).then_some(()))
    })
    .await
}

/// Sends a signal; the exit status, if it comes at once.
async fn interrupted(child: &mut Child, signal: Signal) -> anyhow::Result<Option<i32>> {
    kill_process(pid(child)?, signal)?;
    let status = tokio::time::timeout(AT_ONCE, child.wait()).await.context("it does not end")??;
    Ok(status.code())
}

#[tokio::test]
async fn a_command_that_an_info_server_keeps_waiting_ends_at_a_signal() -> anyhow::Result<()> {
    let (info_server, home, file) = (RogueInfoServer::start().await?, tempfile::tempdir()?, FileId::new().to_string());
    let about = |rest: &str| format!("/v1/files/{file}{rest}");
    let paths = ["/v1/files", "/v1/servers", "/v1/sessions", "/v1/jobs", "/v1/servers/fs-1/drain"].map(str::to_owned);
    for path in paths.into_iter().chain(["", "/metalink", "/replicas", "/preheat"].map(about)) {
        info_server.respond(&path, ScriptedAnswer::Silence);
    }
    let commands: [&[&str]; 11] = [
        &["list"],
        &["servers"],
        &["sessions"],
        &["jobs"],
        &["info", &file],
        &["metalink", &file, "-o", "it.meta4"],
        &["remove", &file],
        &["replicas", &file],
        &["drain", "fs-1", "--wait"],
        &["drain", "fs-1", "--undo"],
        &["--zone", "eu", "preheat", &file, "--wait"],
    ];
    for (n, args) in commands.into_iter().enumerate() {
        let signal = [Signal::INT, Signal::TERM, Signal::HUP][n % 3];
        let mut child = client(home.path(), &info_server, None)?.args(args).spawn()?;
        // What comes with a body, the last of them, is never heard to its end.
        let asked = eventually("it asks", STATUS_TIMEOUT, async || {
            Ok((info_server.requests().len() > n || n == 10).then_some(()))
        });
        asked.await.with_context(|| args.join(" "))?;
        handles(pid(&child)?, signal).await?;
        assert_eq!(interrupted(&mut child, signal).await.with_context(|| args.join(" "))?, Some(3), "{args:?}");
    }
    assert_eq!(names(home.path())?, Vec::<String>::new());
    Ok(())
}

#[tokio::test]
async fn a_login_that_waits_for_its_input_ends_at_a_signal() -> anyhow::Result<()> {
    let (info_server, home) = (RogueInfoServer::start().await?, tempfile::tempdir()?);
    for signal in [Signal::INT, Signal::TERM] {
        let mut child = client(home.path(), &info_server, None)?.arg("login").stdin(Stdio::piped()).spawn()?;
        // Waiting for the end would close it.
        let _keys = child.stdin.take();
        handles(pid(&child)?, signal).await?;
        assert_eq!(interrupted(&mut child, signal).await?, Some(3), "{signal:?}");
    }
    Ok(())
}

/// Waits until what is typed is not shown.
async fn hides_keys(terminal: &mut Terminal) -> anyhow::Result<()> {
    for _ in 0..200 {
        terminal.press("x").await?;
        tokio::time::sleep(Duration::from_millis(50)).await;
        if !terminal.screen().contains('x') {
            return Ok(());
        }
    }
    bail!("what is typed is shown")
}

#[tokio::test]
async fn a_login_that_is_interrupted_at_its_password_leaves_the_terminal_as_it_was() -> anyhow::Result<()> {
    let (info_server, home) = (RogueInfoServer::start().await?, tempfile::tempdir()?);
    let (script, client) = (home.path().join("script"), program("ddm-client")?);
    let login =
        format!("echo \"process $$.\"; exec {} --info {} login a@example.org", client.display(), info_server.url());
    fs::write(&script, format!("trap : INT\nsh -c '{login}'\necho \"status $?.\"\nstty -a\n"))?;
    for signal in [None, Some(Signal::INT), Some(Signal::TERM)] {
        let mut terminal = Terminal::open(&format!("sh {}", script.display()), home.path())?;
        terminal.sees("Password for a@example.org").await?;
        let screen = terminal.screen();
        let printed =
            screen.split("process ").nth(1).and_then(|rest| rest.split('.').next()).context("a process id")?;
        let process = Pid::from_raw(printed.parse()?).context("a process id")?;
        hides_keys(&mut terminal).await?;
        match signal {
            Some(signal) => kill_process(process, signal)?,
            None => terminal.press("\u{3}").await?,
        }
        terminal.sees("status 3.").await.with_context(|| format!("{signal:?}"))?;
        terminal.sees("\nisig icanon iexten echo echoe").await.with_context(|| format!("{signal:?}"))?;
        let Terminal { child, keys, .. } = terminal;
        drop(keys);
        finish(child).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_drain_that_is_waited_for_survives_an_info_server_that_is_away_for_a_while() -> anyhow::Result<()> {
    let (info_server, home) = (RogueInfoServer::start().await?, tempfile::tempdir()?);
    let status = |files: u64| {
        let left = json!({ "server": "fs-1", "draining": true, "files": files, "bytes": files, "stuck": 0 });
        info_server.respond("/v1/servers/fs-1/drain", ScriptedAnswer::Json(200, left.to_string()));
    };
    let asked = async |times: usize| {
        let already = info_server.requests().len();
        eventually("it asks again", STATUS_TIMEOUT, async || {
            Ok((info_server.requests().len() >= already + times).then_some(()))
        })
        .await
    };
    status(2);
    let child = client(home.path(), &info_server, None)?.args(["--json", "drain", "fs-1", "--wait=1m"]).spawn()?;
    asked(2).await?;
    // What a proxy says while the info-server is being started again.
    info_server.respond("/v1/servers/fs-1/drain", ScriptedAnswer::Json(502, "\"Bad gateway\"".to_owned()));
    asked(2).await?;
    status(0);
    let output = finish(child).await?;
    assert!(output.status.success(), "{}", said(&output));
    // One that is empty already is told of once.
    let child = client(home.path(), &info_server, None)?.args(["drain", "fs-1", "--wait"]).spawn()?;
    let output = finish(child).await?;
    assert_eq!(String::from_utf8_lossy(&output.stdout), "fs-1 is drained: it can be stopped.\n");

    // A refusal stays one, and the limit is one whichever server is away.
    status(2);
    let child = client(home.path(), &info_server, None)?.args(["drain", "fs-1", "--wait=1m"]).spawn()?;
    asked(2).await?;
    let refusal = json!({ "type": "about:blank", "title": "For admins", "status": 403 });
    info_server.respond("/v1/servers/fs-1/drain", ScriptedAnswer::Json(403, refusal.to_string()));
    let output = finish(child).await?;
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("For admins"), "{}", said(&output));
    status(2);
    let child = client(home.path(), &info_server, None)?.args(["drain", "fs-1", "--wait=2s"]).spawn()?;
    asked(1).await?;
    info_server.respond("/v1/servers/fs-1/drain", ScriptedAnswer::Json(502, "\"Bad gateway\"".to_owned()));
    let output = finish(child).await?;
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("after 2.00s") && said(&output).contains("502"), "{}", said(&output));
    Ok(())
}

#[tokio::test]
async fn a_metalink_is_written_whole_and_over_nothing_that_is_there() -> anyhow::Result<()> {
    let (info_server, home, file) = (RogueInfoServer::start().await?, tempfile::tempdir()?, FileId::new().to_string());
    let document = "<?xml version=\"1.0\"?>\n<metalink/>\n";
    info_server.respond(&format!("/v1/files/{file}/metalink"), ScriptedAnswer::Json(200, document.to_owned()));
    let write = async |args: &[&str], failing: Option<&Failing>| {
        finish(client(home.path(), &info_server, failing)?.args(["metalink", &file]).args(args).spawn()?).await
    };
    let path = |name: &str| home.path().join(name);
    fs::write(path("bait"), "untouched")?;
    for kind in ["file", "link", "dangling link"] {
        match kind {
            "file" => fs::write(path("it.meta4"), "mine")?,
            "link" => symlink(path("bait"), path("it.meta4"))?,
            _ => symlink(path("nothing"), path("it.meta4"))?,
        }
        let before = tree(home.path())?;
        let output = write(&["-o", "it.meta4"], None).await?;
        assert_eq!(output.status.code(), Some(1), "{kind}");
        assert!(said(&output).contains("it.meta4 exists already"), "{kind}: {}", said(&output));
        assert!(said(&output).contains("-f replaces it"), "{kind}: {}", said(&output));
        assert_eq!(tree(home.path())?, before, "{kind}");
        // A link is replaced with leave, what it points to is not.
        let output = write(&["-f", "-o", "it.meta4"], None).await?;
        assert!(output.status.success(), "{kind}: {}", said(&output));
        assert!(fs::symlink_metadata(path("it.meta4"))?.is_file(), "{kind}");
        assert_eq!(fs::read_to_string(path("it.meta4"))?, document, "{kind}");
        assert_eq!(names(home.path())?, ["bait", "it.meta4"], "{kind}");
        fs::remove_file(path("it.meta4"))?;
    }
    assert_eq!(fs::read(path("bait"))?, b"untouched");

    let full = Failing { path: Some(path("it.meta4.part")), ..Failing::new(Failing::WRITES, "ENOSPC", "1+") };
    let output = write(&["-o", "it.meta4"], Some(&full)).await?;
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert_eq!(names(home.path())?, ["bait"], "nothing half written");
    fs::create_dir(path("folder"))?;
    assert!(write(&["-o", "folder"], None).await?.status.success());
    assert_eq!(names(&path("folder"))?, [format!("{file}.meta4")]);
    for args in [&["-o", "-"][..], &["-f", "-o", "-"], &[]] {
        let output = write(args, None).await?;
        assert!(output.status.success() && output.stdout == document.as_bytes(), "{args:?}: {}", said(&output));
        assert_eq!(names(home.path())?, ["bait", "folder"], "{args:?}");
    }
    Ok(())
}
