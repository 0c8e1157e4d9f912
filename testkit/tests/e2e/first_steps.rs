//! Stumbles of the first day: each message says what is the matter and what to type.

use ddm_testkit::{
    cluster::{Cluster, Plan, run_with_input},
    process::command,
};

use crate::content::event;

fn printed(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn said(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test]
async fn what_is_not_there_is_named_in_plain_words() -> anyhow::Result<()> {
    let cluster = Cluster::start(&Plan::default()).await?;
    let listed = cluster.run_client(&["list", "x.iso"]).await?;
    assert!(printed(&listed).contains("No file has 'x.iso' in its name"), "{}", printed(&listed));

    let unknown = "01890a5d-ac96-774b-bcce-b302099a8057";
    let closed = cluster.run_client(&["sessions", "close", unknown]).await?;
    assert!(said(&closed).contains(&format!("you have no session {unknown}")), "{}", said(&closed));

    let added = run_with_input(cluster.client(&["users", "add", "twice@example.org"])?, "a long password").await?;
    assert!(added.status.success(), "{}", said(&added));
    let again = run_with_input(cluster.client(&["users", "add", "twice@example.org"])?, "a long password").await?;
    assert_eq!(again.status.code(), Some(1));
    assert!(said(&again).contains("there is an account twice@example.org already"), "{}", said(&again));
    assert!(!said(&again).contains("trace"), "{}", said(&again));

    let pages = cluster.path("nodir/pages").display().to_string();
    let written = cluster.run_client(&["man", &pages]).await?;
    assert!(said(&written).contains(&format!("cannot write the manual pages to {pages}")), "{}", said(&written));
    Ok(())
}

#[tokio::test]
async fn a_name_of_two_jobs_is_refused_with_a_list_of_them() -> anyhow::Result<()> {
    let cluster = Cluster::start(&Plan::default()).await?;
    let mut ids = Vec::new();
    for host in ["a.example.org", "b.example.org"] {
        let url = format!("https://{host}/x.bin");
        let output = cluster.run_client(&["--json", &url, "--keep", "--in", "2h"]).await?;
        ids.push(event(&output, "scheduled")?["job"]["id"].as_str().unwrap_or_default().to_owned());
    }
    for command in [&["watch", "x.bin"][..], &["jobs", "show", "x.bin"]] {
        let output = cluster.run_client(command).await?;
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        assert!(ids.iter().all(|id| said(&output).contains(id)), "{command:?}: {}", said(&output));
    }
    Ok(())
}

#[tokio::test]
async fn a_piped_prompt_fails_if_a_line_or_task_does() -> anyhow::Result<()> {
    let cluster = Cluster::start(&Plan::default()).await?;
    for (lines, code, message) in [
        ("servers\n", 0, ""),
        ("help\nhelp list\n", 0, ""),
        ("help nocmd\n", 1, "'nocmd' is not a file id, URL or command"),
        ("info nofile\n", 1, "no file is called"),
        ("get nofile\nwait\n", 1, "no file is called"),
    ] {
        let output = run_with_input(cluster.client(&["shell"])?, lines).await?;
        assert_eq!(output.status.code(), Some(code), "{lines:?}: {}", said(&output));
        assert!(said(&output).contains(message), "{lines:?}: {}", said(&output));
    }
    Ok(())
}

#[tokio::test]
async fn an_address_or_a_file_that_cannot_be_used_is_named_once_with_what_to_write() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("data").display().to_string();
    for (program, arguments, message) in [
        ("ddm-client", &["--info", "127.0.0.1:8000", "list"][..], "write http://127.0.0.1:8000"),
        ("ddm-client", &["--info", "localhost:8000", "list"], "write http://localhost:8000"),
        ("ddm-file-server", &["--info", "localhost:8000"], "write http://localhost:8000"),
        ("ddm-file-server", &["--listen", "9011"], "use ADDRESS:PORT"),
        ("ddm-info-server", &["--listen", "9011"], "use ADDRESS:PORT"),
        ("ddm-info-server", &["--origin-allow", "foo"], "use an address or a network"),
        (
            "ddm-info-server",
            &["--data", &data, "--origin-ca", "nofile"],
            "nofile: No such file or directory (os error 2)",
        ),
        (
            "ddm-file-server",
            &["--data", &data, "--origin-ca", "/dev/null"],
            "/dev/null holds no certificate in PEM form",
        ),
        ("ddm-file-server", &["--data", &data, "--origin-proxy", "foo"], "it must be a URL such as"),
        ("ddm-file-server", &["--data", &data, "--scrub-every", "0s"], "--scrub-every must be at least 1s"),
        ("ddm-info-server", &["--listen", "127.0.0.1:9", "healthcheck"], "no server answers at 127.0.0.1:9: "),
    ] {
        let mut command = command(program)?;
        command.current_dir(folder.path()).env("HOME", folder.path()).args(arguments);
        let output = run_with_input(command, "").await?;
        assert!(!output.status.success(), "{arguments:?}");
        assert_eq!(said(&output).matches(message).count(), 1, "{arguments:?}: {}", said(&output));
    }
    assert!(!folder.path().join("data").exists(), "nothing is made for settings that cannot work");
    Ok(())
}
