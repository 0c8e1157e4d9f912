//! The real program: killed, stopped, started twice.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    path::Path,
    process::{Child, Command, Stdio},
};

use reqwest::StatusCode;
use wire::{ChunkLayout, ChunkSet, Digest, FileId, server::HeldChunks};

use crate::{
    info::Info,
    node::{self, arguments, sample},
};

const MIB: usize = 1 << 20;

pub(crate) struct Program {
    pub(crate) child: Child,
    pub(crate) url: String,
    pub(crate) id: wire::ServerId,
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program without the settings of the user who runs the tests.
fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ddm-file-server"));
    command.env_clear().envs(["PATH", "TMPDIR"].iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    command
}

fn command(info: &str, data: &Path) -> Command {
    let mut command = program();
    command.args(&arguments(info, data)[1..]).args(["--log-format", "json"]).stderr(Stdio::piped());
    command
}

/// The program as an operator starts it, on a folder that it may have to make.
pub(crate) fn plain_command(info: &str, data: &Path) -> Command {
    let mut command = program();
    let arguments = arguments(info, data).into_iter().skip(1).filter(|argument| argument != "--init");
    command.args(arguments).args(["--log-format", "json"]).stderr(Stdio::piped());
    command
}

/// Starts the program; its log says where it listens.
pub(crate) async fn start(info: &str, data: &Path) -> Program {
    listening(command(info, data)).await
}

/// The same, where `data` is a file system of its own, made from an image and hidden from other processes.
pub(crate) async fn start_on(image: &Path, info: &str, data: &Path) -> Program {
    let program = command(info, data);
    let mut shell = Command::new("unshare");
    shell.args(["--mount", "sh", "-c", r#"mount -o loop "$image" "$data" && chmod 700 "$data" && exec "$@""#, "sh"]);
    shell.env_clear().envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell.arg(program.get_program()).args(program.get_args()).env("image", image).env("data", data);
    shell.stderr(Stdio::piped());
    listening(shell).await
}

pub(crate) async fn listening(mut command: Command) -> Program {
    let mut child = command.spawn().unwrap();
    let log = BufReader::new(child.stderr.take().unwrap());
    let found = tokio::task::spawn_blocking(move || {
        let mut lines = log.lines();
        let line = lines.by_ref().map(Result::unwrap).find(|line| line.contains("is listening on")).unwrap();
        // The rest must be read, or the program would block on it.
        std::thread::spawn(move || lines.for_each(drop));
        serde_json::from_str::<serde_json::Value>(&line).unwrap()
    })
    .await
    .unwrap();
    let url = format!("http://{}", found["address"].as_str().unwrap());
    Program { child, url, id: found["server"].as_str().unwrap().parse().unwrap() }
}

#[tokio::test]
async fn acknowledged_chunks_survive_a_kill_at_any_moment() {
    let info = Info::start().await;
    let data = tempfile::tempdir().unwrap();
    let bytes = sample(16 * MIB);
    let file = FileId::new();
    let client = node::client();
    let mut acknowledged = ChunkSet::new();
    let layout = ChunkLayout::of(bytes.len() as u64).unwrap();
    for round in 0..4u32 {
        let mut program = start(&info.url, data.path()).await;
        let token = info.upload(file, bytes.len() as u64, &program.id);
        let url = format!("{}/v1/files/{file}/chunks", program.url);
        let held: HeldChunks = client.get(&url).bearer_auth(token.expose()).send().await.unwrap().json().await.unwrap();
        for run in acknowledged.iter() {
            assert!(held.runs.covers(run.clone()), "{run:?} was acknowledged, {:?} is held", held.runs);
        }
        let down = info.download(file);
        for run in held.runs.iter() {
            let part = layout.bytes_of_run(run);
            let answer = client
                .get(format!("{}/v1/files/{file}/content", program.url))
                .bearer_auth(down.expose())
                .header("range", wire::range::request(&part))
                .send()
                .await
                .unwrap();
            assert_eq!(answer.status(), StatusCode::PARTIAL_CONTENT);
            let expected = &bytes[part.start as usize..part.end as usize];
            assert_eq!(Digest::of(&answer.bytes().await.unwrap()), Digest::of(expected));
        }
        // Six at a time; the kill comes after the second answer, with the others at whatever step they are: what was
        // stored but not acknowledged any more is held at the next start. The last round sends all that is missing.
        let last = round == 3;
        let mut puts: Vec<_> = held
            .runs
            .gaps(0..16)
            .iter()
            .flatten()
            .take(if last { 16 } else { 6 })
            .map(|n| {
                let (client, url, token) = (client.clone(), format!("{url}/{n}"), token.expose().to_owned());
                let chunk = bytes[n as usize * MIB..(n as usize + 1) * MIB].to_vec();
                tokio::spawn(async move {
                    let digest = Digest::of(&chunk).to_field();
                    let request = client.put(url).bearer_auth(token).header("content-digest", digest).body(chunk);
                    (n, request.send().await.map(|answer| answer.status()))
                })
            })
            .collect();
        let enough = if last { puts.len() } else { 2 };
        for _ in 0..enough {
            let (ended, _, rest) = futures::future::select_all(puts).await;
            puts = rest;
            let (n, status) = ended.unwrap();
            assert_eq!(status.unwrap(), StatusCode::CREATED);
            acknowledged.insert(n..n + 1);
        }
        program.child.kill().unwrap();
        program.child.wait().unwrap();
        for put in puts {
            if let (n, Ok(StatusCode::CREATED)) = put.await.unwrap() {
                acknowledged.insert(n..n + 1);
            }
        }
        if last {
            held.runs.iter().for_each(|run| acknowledged.insert(run));
            assert_eq!(acknowledged, layout.all());
        }
    }
}

#[tokio::test]
async fn a_second_process_on_the_same_folder_is_refused() {
    let info = Info::start().await;
    let data = tempfile::tempdir().unwrap();
    let first = start(&info.url, data.path()).await;
    let second = tokio::task::spawn_blocking({
        let mut command = command(&info.url, data.path());
        move || command.output().unwrap()
    });
    let output = second.await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(message.contains("another process works on") && message.contains("--data"), "{message}");
    drop(first);
}

#[tokio::test]
async fn sigterm_lets_a_running_response_finish_and_deregisters() {
    let info = Info::start().await;
    let data = tempfile::tempdir().unwrap();
    let mut program = start(&info.url, data.path()).await;
    info.wait_until(|received| !received.beats.is_empty()).await;
    let client = node::client();
    let (file, bytes) = (FileId::new(), sample(16 * MIB));
    let up = info.upload(file, bytes.len() as u64, &program.id);
    for (n, chunk) in (0..).zip(bytes.chunks(MIB)) {
        assert!(
            node::put(&client, &format!("{}/v1/files/{file}/chunks/{n}", program.url), &up, chunk)
                .await
                .status()
                .is_success()
        );
    }
    let ready = client.get(format!("{}/readyz", program.url)).send().await.unwrap();
    assert_eq!(ready.status(), StatusCode::OK, "{}", ready.text().await.unwrap());
    let down = info.download(file);
    let url = node::content(&program.url, file);
    let mut answer = client.get(url).bearer_auth(down.expose()).send().await.unwrap();
    let mut seen = answer.chunk().await.unwrap().unwrap().to_vec();
    let pid = rustix::process::Pid::from_child(&program.child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    info.wait_until(|received| received.left == [program.id.clone()]).await;
    while let Some(more) = answer.chunk().await.unwrap() {
        seen.extend_from_slice(&more);
    }
    assert_eq!(Digest::of(&seen), Digest::of(&bytes));
    drop(answer);
    let (id, status) = tokio::task::spawn_blocking(move || {
        let status = program.child.wait().unwrap();
        (program.id.clone(), status)
    })
    .await
    .unwrap();
    assert!(status.success(), "{id}: {status}");
}

#[tokio::test]
async fn an_interrupt_at_the_login_prompt_of_an_import_ends_it_at_once() {
    let data = tempfile::tempdir().unwrap();
    let _server = start("http://127.0.0.1:9", data.path()).await;
    let mut command = command("http://127.0.0.1:9", data.path());
    let mut child = command.args(["import", "/proc/self/exe"]).stdin(Stdio::piped()).spawn().unwrap();
    let status = tokio::task::spawn_blocking(move || {
        let (mut stderr, mut message) = (child.stderr.take().unwrap(), Vec::new());
        let mut byte = [0];
        while !message.ends_with(b"E-mail: ") && stderr.read(&mut byte).unwrap() > 0 {
            message.push(byte[0]);
        }
        let asked = message.ends_with(b"E-mail: ");
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        for _ in 0..200 {
            if let Some(status) = child.try_wait().unwrap() {
                return asked.then_some(status);
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        None
    });
    assert!(status.await.unwrap().is_some_and(|status| !status.success()));
}

#[test]
fn commands_refuse_a_folder_on_which_no_server_ever_worked_and_do_not_make_it() {
    let folder = tempfile::tempdir().unwrap();
    let typo = folder.path().join("typo");
    for command in [&["import", "/proc/self/exe"][..], &["unknown", "list"], &["unknown", "remove", "--all"]] {
        let output = program().args(["--data", typo.to_str().unwrap()]).args(command).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{command:?}: {stderr}");
        assert!(stderr.contains("no server ever worked on this folder"), "{command:?}: {stderr}");
        assert!(!typo.exists(), "{command:?}");
    }
}

#[test]
fn an_import_looks_for_its_files_before_it_asks_for_a_log_in() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    let output = program().args(["--data", data, "import", "/nowhere/nofile"]).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(stderr.contains("cannot publish /nowhere/nofile") && !stderr.contains("E-mail"), "{stderr}");
}

#[test]
fn bad_settings_are_usage_errors_or_refusals_before_anything_listens() {
    let data = tempfile::tempdir().unwrap();
    for (extra, code, message) in [
        (&["--listen", "nowhere"][..], 2, "--listen"),
        (&["--zone", "Not A Zone"], 2, "--zone"),
        (&["--amqp", "http://x"], 1, "amqp"),
        (&["--listen", "0.0.0.0:0"], 1, "--public-url"),
        (&["--partial-dir", "/proc/ddm"], 1, "/proc/ddm"),
    ] {
        let output = program().args(["--init", "--data", data.path().to_str().unwrap()]).args(extra).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{extra:?}: {stderr}");
        assert!(stderr.contains(message), "{extra:?}: {stderr}");
    }
}
