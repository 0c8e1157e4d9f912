//! Disks that fill up, folders that go away, two clients on one file.

use std::{
    fs,
    process::{Output, Stdio},
    time::Duration,
};

use ddm_testkit::{
    cluster::finish,
    process::{eventually, program, tool},
    rogue::Behaviour,
};

use super::fixture::{Fixture, said};
use crate::content::{MIB, event, names, number};

/// Runs a script in which `$folder` stands for a file system of its own, as `mount` makes it, that no other process sees, and `get`
/// downloads to it. Needs namespaces of users, as systems have them for containers.
async fn in_a_mount(fixture: &Fixture, mount: &str, script: &str) -> anyhow::Result<Output> {
    let folder = fixture.folder.path().join("mount");
    fs::create_dir_all(&folder)?;
    let prelude = r#"set -eu; mount $mount "$folder"
        get() { "$client" --json --info "$info" -o "$folder/got.bin" "$file"; }"#;
    let mut shell = tool("unshare");
    shell.args(["--user", "--map-root-user", "--mount", "sh", "-c", &format!("{prelude}\n{script}")]);
    shell
        .env("client", program("ddm-client")?)
        .env("info", fixture.info_server.url())
        .env("file", fixture.file.to_string());
    shell.env("folder", &folder).env("mount", mount).env("HOME", fixture.folder.path().join("home"));
    let child = shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn()?;
    finish(child).await
}

#[tokio::test]
async fn a_disk_that_is_full_from_the_start_is_told_and_nothing_is_left() -> anyhow::Result<()> {
    let fixture = Fixture::new(12 * MIB, 1).await?;
    let script = "if get; then exit 9; else code=$?; fi; ls -s \"$folder\" >&2; exit $code";
    let output = in_a_mount(&fixture, "-t tmpfs -o size=4m none", script).await?;
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("no room for 12582912 bytes"), "{}", said(&output));
    assert!(said(&output).contains("start again to resume"), "{}", said(&output));
    assert!(!said(&output).contains(" got.bin\n"), "{}", said(&output));
    assert_eq!(fixture.rogues[0].sent(), 0, "nothing is fetched that cannot be kept");
    Ok(())
}

#[tokio::test]
async fn a_disk_that_fills_up_midway_ends_the_download_and_it_resumes_when_there_is_room() -> anyhow::Result<()> {
    let fixture = Fixture::new(12 * MIB, 1).await?;
    fixture.rogues[0].set(Behaviour::Throttle { rate: MIB });
    // There is room at the start; another process takes it while the file grows.
    let script = "get & pid=$!
        until [ \"$(stat -c %b \"$folder/got.bin.part\" 2>/dev/null || echo 0)\" -gt 4096 ]; do sleep 0.05; done
        head -c 9M /dev/zero >\"$folder/filler\" || true
        code=0; wait $pid || code=$?
        [ ! -e \"$folder/got.bin\" ] || exit 8
        [ $code = 1 ] || exit 7
        rm \"$folder/filler\"; get; sha256sum \"$folder/got.bin\"; ls -A \"$folder\"";
    let output = in_a_mount(&fixture, "-t tmpfs -o size=14m none", script).await?;
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(said(&output).contains("no room for 12582912 bytes"), "{}", said(&output));
    let text = String::from_utf8(output.stdout)?;
    assert!(text.contains(&wire::Digest::of(&fixture.content).to_string()), "{text}");
    assert!(text.ends_with("\ngot.bin\n"), "only the file is left: {text}");
    let done = text.lines().find(|line| line.contains(r#""event":"done""#)).unwrap();
    let done: serde_json::Value = serde_json::from_str(done)?;
    assert!(number(&done["report"]["resumed"]) >= MIB, "{done}");
    Ok(())
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_to_is_told() -> anyhow::Result<()> {
    let fixture = Fixture::new(MIB, 1).await?;
    let output = in_a_mount(&fixture, "-t tmpfs -o ro none", "get").await?;
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("cannot create") && said(&output).contains("Read-only"), "{}", said(&output));
    Ok(())
}

#[tokio::test]
async fn a_folder_that_vanishes_midway_is_told_and_nothing_else_is_made() -> anyhow::Result<()> {
    let fixture = Fixture::new(12 * MIB, 1).await?;
    fixture.rogues[0].set(Behaviour::Throttle { rate: 8 * MIB });
    let folder = fixture.here("sub");
    fs::create_dir(&folder)?;
    let client = fixture.spawn(&["-o", &folder.display().to_string()])?;
    eventually("some of it is there", Duration::from_secs(20), async || {
        Ok((fixture.rogues[0].sent() > 3 * MIB).then_some(()))
    })
    .await?;
    fs::remove_dir_all(&folder)?;
    let output = finish(client).await?;
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("moved or removed during the download"), "{}", said(&output));
    assert_eq!(names(&fixture.here(""))?, Vec::<String>::new());
    Ok(())
}

#[tokio::test]
async fn of_two_clients_on_one_file_the_second_is_told_and_the_first_ends_right() -> anyhow::Result<()> {
    let fixture = Fixture::new(12 * MIB, 1).await?;
    fixture.rogues[0].set(Behaviour::Throttle { rate: 4 * MIB });
    let first = fixture.spawn(&["--json"])?;
    eventually("the first is at work", Duration::from_secs(20), async || {
        Ok((fixture.rogues[0].sent() > MIB).then_some(()))
    })
    .await?;
    let second = fixture.run(&[]).await?;
    assert_eq!(second.status.code(), Some(1));
    assert!(said(&second).contains("is in use by another download"), "{}", said(&second));
    event(&finish(first).await?, "done")?;
    assert!(fixture.is_right("got.bin")?);
    Ok(())
}
