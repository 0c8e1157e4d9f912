//! P8: commands name files as people do, work on several at once, and say what went wrong, where, and what to do next.

use std::{
    fs,
    process::{Output, Stdio},
    time::{Duration, Instant},
};

use ddm_testkit::{
    cluster::{Cluster, Plan, events, finish, run_with_input},
    process::{command, eventually},
    proxy::Direction,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::{
    content::{MIB, event, file, names, sha256},
    hostile::fixture::said,
    terminal::Terminal,
};

fn printed(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The longest text with which the id begins and no other does.
fn short<'a>(id: &'a str, others: &[&str]) -> &'a str {
    let is_unique = |len: &usize| others.iter().all(|other| !other.starts_with(&id[..*len]));
    let len = (8..36).find(is_unique).unwrap();
    &id[..len]
}

#[tokio::test]
async fn files_are_named_by_their_names_and_the_beginnings_of_their_ids() -> anyhow::Result<()> {
    let cluster = Cluster::start(&Plan::zones(&["eu", "eu"])).await?;
    let [a, b] = [("a.bin", 1), ("b.bin", 2)].map(|(name, seed)| file(&cluster, name, seed, 2 * MIB).unwrap());
    let (first, second) = (cluster.publish(&a, &[]).await?, cluster.publish(&b, &[]).await?);
    event(&cluster.run_client(&["--json", "get", "b.bin", "-o", "got.bin"]).await?, "done")?;
    assert_eq!(sha256(&cluster.path("got.bin"))?, sha256(&b)?);
    let output = cluster.run_client(&["info", short(&first, &[&second])]).await?;
    assert!(output.status.success() && printed(&output).contains(&first), "{}", said(&output));
    let output = cluster.run_client(&["-f", "-o", "got.bin", short(&first, &[&second])]).await?;
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(sha256(&cluster.path("got.bin"))?, sha256(&a)?);

    let output = cluster.run_client(&["rename", "b.bin", "a.bin"]).await?;
    assert!(output.status.success(), "{}", said(&output));
    for args in [&["info", "a.bin"][..], &["remove", "a.bin"], &["get", "a.bin"], &["policy", "a.bin"]] {
        let output = cluster.run_client(args).await?;
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", said(&output));
        assert!(said(&output).contains(&first) && said(&output).contains(&second), "{}", said(&output));
    }
    let output = cluster.run_client(&["replicas", "none.bin"]).await?;
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("no file is called 'none.bin'"), "{}", said(&output));
    let output = cluster.run_client(&["lst"]).await?;
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("did you mean `list`?"), "{}", said(&output));
    Ok(())
}

#[tokio::test]
async fn one_of_several_that_fails_leaves_the_others_and_is_named() -> anyhow::Result<()> {
    let cluster = Cluster::start(&Plan::zones(&["eu", "eu"])).await?;
    let [a, b, c] = [("a", 1), ("b", 2), ("c", 3)].map(|(name, seed)| file(&cluster, name, seed, MIB).unwrap());
    fs::remove_file(&b)?;
    let output = cluster.run_client(&["publish", "a", "b", "c"]).await?;
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(printed(&output).contains("  a\n") && printed(&output).contains("  c\n"), "{}", printed(&output));
    assert!(
        said(&output).contains("cannot publish b: ") && said(&output).contains("1 of 3 failed: b\n"),
        "{}",
        said(&output)
    );
    let output = cluster.run_client(&["publish", "a", "c", "--name", "x"]).await?;
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));

    fs::create_dir(cluster.path("got"))?;
    let output = cluster.run_client(&["--json", "get", "a", "nothing", "c", "-o", "got"]).await?;
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert_eq!(names(&cluster.path("got"))?, ["a", "c"]);
    assert!(said(&output).contains("1 of 3 failed: nothing"), "{}", said(&output));
    let events = events(&output)?;
    let done = |name: &str| events.iter().any(|event| event["event"] == "done" && event["target"] == name);
    assert!(done("a") && done("c"), "{events:?}");
    let end = events.last().unwrap();
    assert_eq!((&end["event"], &end["done"], &end["failed"]), (&json!("ended"), &json!(2), &json!(["nothing"])));

    let list = cluster.get("/v1/files?q=a").await?;
    let id = list["files"][0]["id"].as_str().unwrap();
    fs::write(cluster.path("list"), format!("# two of them\n{id}\n\nc\n"))?;
    fs::create_dir(cluster.path("again"))?;
    let output = cluster.run_client(&["get", "-i", "list", "-o", "again"]).await?;
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(sha256(&cluster.path("again/a"))?, sha256(&a)?);
    assert_eq!(sha256(&cluster.path("again/c"))?, sha256(&c)?);
    let output = cluster.run_client(&["get", "a", "c", "-o", "none"]).await?;
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    Ok(())
}

#[tokio::test]
async fn content_that_is_published_already_is_not_sent_again() -> anyhow::Result<()> {
    let cluster = Cluster::start(&Plan::zones(&["eu", "eu"])).await?;
    let path = file(&cluster, "a.bin", 1, 3 * MIB)?;
    let id = cluster.publish(&path, &["--replicas", "2"]).await?;
    fs::copy(&path, cluster.path("copy.bin"))?;
    let again = event(&cluster.run_client(&["--json", "publish", "copy.bin", "--replicas", "5"]).await?, "published")?;
    assert_eq!((&again["file"]["id"], &again["existing"]), (&json!(id), &json!(true)));
    assert_eq!(cluster.get(&format!("/v1/files/{id}/policy")).await?["policy"]["replicas"], 5, "widened as asked");
    event(&cluster.run_client(&["--json", "publish", "copy.bin", "--replicas", "1"]).await?, "published")?;
    assert_eq!(cluster.get(&format!("/v1/files/{id}/policy")).await?["policy"]["replicas"], 5, "and never narrowed");
    let other = event(&cluster.run_client(&["--json", "publish", "copy.bin", "--again"]).await?, "published")?;
    assert_ne!(other["file"]["id"], id);
    fs::write(cluster.path("copy.bin"), vec![7; 3 << 20])?;
    let changed = event(&cluster.run_client(&["--json", "publish", "copy.bin"]).await?, "published")?;
    assert!(changed["file"]["id"] != id && changed.get("existing").is_none(), "{changed}");
    Ok(())
}

#[tokio::test]
async fn a_local_file_is_compared_chunk_by_chunk_and_repaired() -> anyhow::Result<()> {
    let cluster = Cluster::start(&Plan::zones(&["eu", "eu"])).await?;
    let path = file(&cluster, "a.bin", 1, 6 * MIB + 5)?;
    let id = cluster.publish(&path, &[]).await?;
    let output = cluster.run_client(&["verify", "a.bin"]).await?;
    assert!(output.status.success() && printed(&output).contains("a.bin: intact"), "{}", said(&output));
    let mut content = fs::read(&path)?;
    let right = content.clone();
    for at in [MIB + 9, 4 * MIB] {
        content[usize::try_from(at)?] ^= 1;
    }
    content.truncate(content.len() - 1);
    fs::write(cluster.path("copy.bin"), &content)?;
    for args in [&["verify", "a.bin", "copy.bin", &id][..], &["verify", "copy.bin", &id[..35]]] {
        let output = cluster.run_client(args).await?;
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        assert!(
            printed(&output).contains("copy.bin: NOT intact: chunks 1, 4, 6 of 7 are wrong"),
            "{}",
            printed(&output)
        );
    }
    assert_eq!(fs::read(cluster.path("copy.bin"))?, content, "nothing was changed");
    let output = cluster.run_client(&["--json", "verify", "--repair", "copy.bin", &id]).await?;
    let repaired = event(&output, "repaired")?;
    assert_eq!(repaired["fetched"], 2 * MIB + 5, "these chunks alone");
    assert!(fs::read(cluster.path("copy.bin"))? == right);
    content = right.clone();
    content.push(0);
    fs::write(cluster.path("copy.bin"), &content)?;
    let output = cluster.run_client(&["verify", "copy.bin", "a.bin"]).await?;
    assert!(output.status.code() == Some(1), "both are here, and copy.bin is no published name: {}", said(&output));
    let output = cluster.run_client(&["verify", "--repair", "copy.bin", "--id", "a.bin"]).await?;
    assert!(output.status.success() && fs::read(cluster.path("copy.bin"))? == right, "{}", said(&output));
    Ok(())
}

#[tokio::test]
async fn replicas_are_raised_and_lowered_and_what_is_dropped_is_shown_first() -> anyhow::Result<()> {
    let cluster = Cluster::start(&Plan::zones(&["eu", "eu", "us"])).await?;
    let id = cluster.publish(&file(&cluster, "a.bin", 1, 2 * MIB)?, &["--replicas", "2", "--wait"]).await?;
    let live = async |wanted: u64| {
        eventually("so many replicas", Duration::from_secs(60), async || {
            let list = cluster.get("/v1/files?q=a.bin").await?;
            Ok((list["files"][0]["live_replicas"] == wanted).then_some(()))
        })
        .await
    };
    let output = cluster.run_client(&["policy", "a.bin", "--replicas", "1", "--dry-run"]).await?;
    assert!(output.status.success() && printed(&output).matches("dropped: ").count() == 1, "{}", printed(&output));
    live(2).await?;
    let output = cluster.run_client(&["policy", "a.bin", "--replicas", "1"]).await?;
    let (dropped, now) = (printed(&output).find("dropped: "), printed(&output).find(&format!("{id}: 1 replica")));
    assert!(dropped.is_some() && dropped < now, "{}", printed(&output));
    live(1).await?;
    cluster.run_client(&["policy", "a.bin", "--replicas", "3"]).await?;
    live(3).await?;
    let output = cluster.run_client(&["watch", "a.bin"]).await?;
    assert!(output.status.success() && printed(&output).contains("every wanted replica"), "{}", said(&output));
    // A zone that was asked for in addition is given up again.
    cluster.run_client(&["policy", "a.bin", "--zones", "eu", "--replicas", "1"]).await?;
    live(1).await?;
    let output = cluster.run_client(&["--zone", "us", "preheat", "a.bin", "--replicas", "1", "--wait"]).await?;
    assert!(output.status.success() && printed(&output).contains("Requested replicas of"), "{}", said(&output));
    live(2).await?;
    let output = cluster.run_client(&["--zone", "us", "preheat", "a.bin", "--undo"]).await?;
    assert!(output.status.success(), "{}", said(&output));
    live(1).await?;
    let output = cluster.run_client(&["--zone", "us", "preheat", "a.bin", "--undo"]).await?;
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    // What was acknowledged must stand on two disks in the end.
    cluster.run_client(&["policy", "a.bin", "--replicas", "2"]).await?;
    live(2).await
}

#[tokio::test]
async fn a_wait_for_replicas_that_cannot_be_ends_soon_with_the_reason() -> anyhow::Result<()> {
    let cluster = Cluster::start(&Plan::zones(&["eu", "eu"])).await?;
    file(&cluster, "a.bin", 1, MIB)?;
    let began = Instant::now();
    let output = cluster.run_client(&["publish", "a.bin", "--zones", "eu", "--wait"]).await?;
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    assert!(
        said(&output).contains("3 replicas are wanted in eu, and only 2 live servers can hold one"),
        "{}",
        said(&output)
    );
    let output = cluster.run_client(&["--zone", "moon", "info", "a.bin"]).await?;
    assert!(output.status.success(), "{}", said(&output));
    assert!(
        said(&output).contains("no live file server is in the zone moon; there are servers in eu"),
        "{}",
        said(&output)
    );
    let output = cluster.run_client(&["drain", "nowhere"]).await?;
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said(&output).contains("no file server is called 'nowhere' and no id begins so; `ddm-client servers`"),
        "{}",
        said(&output)
    );
    Ok(())
}

#[tokio::test]
async fn who_is_not_logged_in_is_told_how_to_and_an_unreachable_server_has_no_log() -> anyhow::Result<()> {
    let cluster = Cluster::start(&Plan::zones(&["eu"])).await?;
    let run = async |args: &[&str]| {
        let mut client = command("ddm-client")?;
        client.current_dir(cluster.path("")).env("HOME", cluster.path("")).args(args);
        run_with_input(client, "").await
    };
    fs::write(cluster.path("x"), "x")?;
    for args in [&["list"][..], &["publish", "x"], &["users"]] {
        let output = run(&[&["--info", cluster.info_url()], args].concat()).await?;
        assert_eq!(output.status.code(), Some(1));
        let text = said(&output);
        assert!(text.contains("you are not logged in at") && text.contains("`ddm-client login`"), "{text}");
        assert!(!text.contains("trace") && !text.contains("/v1/sessions") && !text.contains("resume"), "{text}");
    }
    let output = run(&["--info", "http://127.0.0.1:9", "list"]).await?;
    assert!(output.status.code() == Some(1) && !said(&output).contains("trace"), "{}", said(&output));
    let tls = cluster.info_url().replace("http://", "https://");
    let output = run(&["--info", &tls, "list"]).await?;
    assert!(said(&output).contains("it does not speak TLS there"), "{}", said(&output));
    // A file server is no info-server.
    let server = cluster.get("/v1/servers").await?["servers"][0]["url"].as_str().unwrap().to_owned();
    let output = run(&["--info", &server, "list"]).await?;
    assert!(output.status.code() == Some(1) && said(&output).contains("--info"), "{}", said(&output));
    Ok(())
}

#[tokio::test]
async fn an_admin_keeps_accounts_from_the_client() -> anyhow::Result<()> {
    let cluster = Cluster::start(&Plan::zones(&["eu"])).await?;
    let run = async |args: &[&str], input: &str| run_with_input(cluster.client(args)?, input).await;
    let (email, password) = ("reader+1@example.org", "a long password\n");
    let output = run(&["users", "add", email, "--role", "reader"], password).await?;
    assert!(output.status.success(), "{}", said(&output));
    let listed = async || {
        let output = run(&["--json", "users", "list"], "").await?;
        let all: Vec<Value> = events(&output)?;
        anyhow::Ok(all.into_iter().find(|account| account["email"] == email).unwrap())
    };
    assert_eq!(listed().await?["role"], "reader");
    for (args, member, value) in [
        (&["users", "role", email, "publisher"][..], "role", json!("publisher")),
        (&["users", "disable", email], "disabled", json!(true)),
        (&["users", "disable", email, "--undo"], "disabled", json!(false)),
    ] {
        let output = run(args, "").await?;
        assert!(output.status.success(), "{args:?}: {}", said(&output));
        assert_eq!(listed().await?[member], value, "{args:?}");
    }
    assert!(run(&["users", "passwd", email], "another password\n").await?.status.success());
    for (password, right) in [(password.trim(), false), ("another password", true)] {
        let body = json!({ "email": email, "password": password });
        let answer = cluster.http.post(format!("{}/v1/sessions", cluster.info_url())).json(&body).send().await?;
        assert_eq!(answer.status().is_success(), right);
    }
    let output = run(&["users", "role", "nobody@example.org", "admin"], "").await?;
    assert!(output.status.code() == Some(1) && said(&output).contains("there is no account"), "{}", said(&output));
    Ok(())
}

#[tokio::test]
async fn an_interrupted_download_says_how_far_it_came_and_a_log_gets_few_lines() -> anyhow::Result<()> {
    let cluster = Cluster::start(&Plan { proxied: true, ..Plan::zones(&["eu", "eu"]) }).await?;
    let id = cluster.publish(&file(&cluster, "a.bin", 1, 16 * MIB)?, &[]).await?;
    for server in &cluster.servers {
        server.proxy.as_ref().unwrap().shape(Direction::Down, |line| line.rate = Some(1 << 20));
    }
    let part = cluster.path("got.bin.part");
    let some = async || {
        use std::os::unix::fs::MetadataExt as _;
        let blocks = fs::metadata(&part).map_or(0, |part| part.mtime());
        Ok((blocks > 0).then_some(()))
    };
    for signal in [Signal::INT, Signal::HUP] {
        let mut client = cluster.client(&["get", &id, "-o", "got.bin"])?;
        let client = client.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        eventually("it has begun", Duration::from_secs(20), some).await?;
        tokio::time::sleep(Duration::from_secs(4)).await;
        kill_process(Pid::from_raw(client.id().unwrap().try_into()?).unwrap(), signal)?;
        let output = finish(client).await?;
        assert_eq!(output.status.code(), Some(3), "{}", said(&output));
        assert!(
            said(&output).contains("Interrupted at ") && said(&output).contains("of 16.0 MiB are stored"),
            "{}",
            said(&output)
        );
        assert!(said(&output).contains("Run the same command to resume."), "{}", said(&output));
        let lines = said(&output).lines().filter(|line| line.contains(" chunks, ")).count();
        assert!((1..=2).contains(&lines), "{}", said(&output));
    }
    for server in &cluster.servers {
        server.proxy.as_ref().unwrap().heal();
    }
    event(&cluster.run_client(&["--json", "get", &id, "-o", "got.bin"]).await?, "done")?;
    Ok(())
}

#[tokio::test]
async fn a_terminal_that_cannot_move_its_cursor_gets_lines() -> anyhow::Result<()> {
    let cluster = Cluster::start(&Plan { proxied: true, ..Plan::zones(&["eu", "eu"]) }).await?;
    let id = cluster.publish(&file(&cluster, "a.bin", 1, 16 * MIB)?, &[]).await?;
    for server in &cluster.servers {
        server.proxy.as_ref().unwrap().shape(Direction::Down, |line| line.rate = Some(1 << 20));
    }
    let client = cluster.client(&["get", &id, "-o", "got.bin"])?;
    let words = std::iter::once(client.as_std().get_program()).chain(client.as_std().get_args());
    let line = words.map(|word| format!("'{}'", word.to_string_lossy())).collect::<Vec<_>>().join(" ");
    let terminal = Terminal::open(&format!("env TERM=dumb {line}"), &cluster.path(""))?;
    terminal.sees(" of 16 chunks, ").await?;
    for server in &cluster.servers {
        server.proxy.as_ref().unwrap().heal();
    }
    let Terminal { child, keys, .. } = terminal;
    assert!(finish(child).await?.status.success());
    drop(keys);
    Ok(())
}
