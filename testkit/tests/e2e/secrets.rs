//! P13, F55: after a lively run no secret stands in clear anywhere but in its owner's own file; nothing has a default secret, and
//! nothing listens where it should not.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use ddm_testkit::{
    cluster::{Cluster, PASSWORD, Plan, STEP_TIMEOUT, finish},
    process::{Server, command, eventually, write_private},
    rabbitmq::VirtualHost,
};
use reqwest::{Method, StatusCode};
use rustix::process::Pid;
use serde_json::{Value, json};

use crate::{
    content::{MIB, event, file},
    events::Spy,
};

/// Password of the broker's user; the URL with it stands in a file.
const BROKER_PASSWORD: &str = "battery-staple-of-the-broker";
/// Files whose owner keeps a secret in them.
const OWN: [&str; 3] = ["info-server/join-secret", "identity.json", "logins.json"];

/// A name of each secret, and its text.
type Secrets = Vec<(&'static str, String)>;

/// Returns the secrets that these bytes contain.
fn found(secrets: &Secrets, bytes: &[u8]) -> Vec<&'static str> {
    let within = |secret: &str| bytes.windows(secret.len()).any(|part| part == secret.as_bytes());
    secrets.iter().filter(|(_, secret)| within(secret)).map(|(name, _)| *name).collect()
}

/// Returns all plain files below a folder.
fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        match entry.file_type()? {
            kind if kind.is_dir() => all.extend(files(&entry.path())?),
            kind if kind.is_file() => all.push(entry.path()),
            _ => {}
        }
    }
    Ok(all)
}

/// Returns what other users of the machine, or its owner, can see of a process.
fn surroundings(pid: Pid) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    let read = |name: &str| -> anyhow::Result<_> {
        let path = format!("/proc/{}/{name}", pid.as_raw_nonzero());
        Ok((path.clone(), std::fs::read(&path).context(path)?))
    };
    Ok(vec![read("cmdline")?, read("environ")?])
}

fn processes(cluster: &Cluster) -> impl Iterator<Item = &Server> {
    cluster.info.iter().chain(cluster.servers.iter().filter_map(|server| server.process.as_ref()))
}

/// The addresses at which a process listens, by TCP or UDP.
fn listening(pid: Pid) -> anyhow::Result<BTreeSet<SocketAddr>> {
    let proc = format!("/proc/{}", pid.as_raw_nonzero());
    let mut own = BTreeSet::new();
    for entry in std::fs::read_dir(format!("{proc}/fd"))? {
        let target = std::fs::read_link(entry?.path()).unwrap_or_default();
        let target = target.to_string_lossy().into_owned();
        own.extend(target.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']')).map(str::to_owned));
    }
    let mut addresses = BTreeSet::new();
    // State 0A is LISTEN; a UDP socket that is not connected is 07.
    for (table, state) in [("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")] {
        for line in std::fs::read_to_string(format!("{proc}/net/{table}"))?.lines().skip(1) {
            let words: Vec<&str> = line.split_whitespace().collect();
            if words.get(3) == Some(&state) && words.get(9).is_some_and(|inode| own.contains(*inode)) {
                addresses.insert(address(words[1])?);
            }
        }
    }
    Ok(addresses)
}

/// `0100007F:1F90` as the kernel writes it: words in the machine's order, in hex.
fn address(text: &str) -> anyhow::Result<SocketAddr> {
    let (host, port) = text.split_once(':').context("an address")?;
    let words =
        host.as_bytes().chunks(8).map(|word| u32::from_str_radix(std::str::from_utf8(word)?, 16).map_err(Into::into));
    let octets: Vec<u8> = words.collect::<anyhow::Result<Vec<u32>>>()?.into_iter().flat_map(u32::to_ne_bytes).collect();
    let ip = match <[u8; 4]>::try_from(octets.as_slice()) {
        Ok(four) => four.into(),
        Err(_) => <[u8; 16]>::try_from(octets.as_slice())?.into(),
    };
    Ok(SocketAddr::new(ip, u16::from_str_radix(port, 16)?))
}

/// A cluster on a broker whose password stands in a private file.
async fn start(broker: &VirtualHost, private: &Path) -> anyhow::Result<Cluster> {
    let url = broker.add_user("ddm-test", BROKER_PASSWORD).await?;
    write_private(private, url.as_bytes())?;
    let args = vec!["--amqp-file".to_owned(), private.display().to_string()];
    let plan = Plan { info_args: args.clone(), file_server_args: args, proxied: true, ..Plan::zones(&["eu", "us"]) };
    Cluster::start(&plan).await
}

/// Log-ins, publications, downloads, a revocation, refusals; every secret that was used. All messages go to `messages`.
async fn live(cluster: &Cluster, spy: &mut Spy, messages: &mut Vec<Vec<u8>>) -> anyhow::Result<Secrets> {
    let mut secrets: Secrets = vec![
        ("a password", PASSWORD.to_owned()),
        ("the broker's password", BROKER_PASSWORD.to_owned()),
        ("a session", cluster.token.clone()),
        ("the join secret", std::fs::read_to_string(cluster.path("info-server/join-secret"))?.trim().to_owned()),
    ];
    for n in 0..2 {
        let identity = std::fs::read(cluster.path(&format!("file-server-{n}/identity.json")))?;
        let identity: Value = serde_json::from_slice(&identity)?;
        secrets.push(("a server's secret", identity["secret"].as_str().context("a secret")?.to_owned()));
    }
    cluster.user(&["add", "p@example.org", "--role", "publisher"], Some(PASSWORD)).await?;
    let session = cluster.log_in("p@example.org").await?;
    secrets.push(("another session", session.clone()));
    let id = cluster.publish(&file(cluster, "x.bin", 55, 6 * MIB)?, &[]).await?;
    let plan = cluster.request(Method::POST, "/v1/files").json(&json!({ "name": "y.bin", "size": 10 })).send().await?;
    let plan: Value = plan.json().await?;
    secrets.push(("an upload token", plan["upload"]["token"].as_str().context("a token")?.to_owned()));
    let (kept, revoked) = (cluster.details(&id).await?, cluster.details(&id).await?);
    for details in [&kept, &revoked] {
        secrets.push(("a download token", details["download"]["token"].as_str().context("a token")?.to_owned()));
    }
    let path = format!("/v1/tokens/{}", revoked["download"]["token_id"].as_str().context("an id")?);
    ensure!(cluster.request(Method::DELETE, &path).send().await?.status() == StatusCode::NO_CONTENT);
    // Where no token belongs: it must not be written down with the request.
    let url = revoked["locations"][0]["url"].as_str().context("a url")?;
    for (_, secret) in &secrets.clone() {
        let query = cluster.http.get(url).query(&[("token", secret)]).send().await?;
        ensure!(query.status() == StatusCode::UNAUTHORIZED, "{}", query.status());
        let wrong = json!({ "email": "p@example.org", "password": format!("{secret} and more") });
        cluster.http.post(format!("{}/v1/files", cluster.info_url())).bearer_auth(secret).json(&wrong).send().await?;
    }
    eventually("the revocation is known", STEP_TIMEOUT, async || {
        let token = revoked["download"]["token"].as_str().context("a token")?;
        let answer = cluster.http.get(url).bearer_auth(token).send().await?;
        Ok((answer.status() == StatusCode::FORBIDDEN).then_some(()))
    })
    .await?;
    for n in 0..2 {
        cluster.proxy(n)?.limit(Some(2 << 20));
    }
    let client = cluster.spawn_client(&["--json", "-o", "got.bin", &id])?;
    let pid = Pid::from_raw(client.id().context("a process id")?.try_into()?).context("a process id")?;
    eventually("the download runs", STEP_TIMEOUT, async || Ok(cluster.path("got.bin.part").exists().then_some(())))
        .await?;
    for (what, bytes) in surroundings(pid)? {
        assert_eq!(found(&secrets, &bytes), Vec::<&str>::new(), "{what} of the client");
    }
    assert_eq!(listening(pid)?, BTreeSet::new(), "the client listens");
    let half_way = files(&cluster.path(""))?;
    assert_clean(&secrets, &half_way)?;
    event(&finish(client).await?, "done")?;
    while let Ok(message) = tokio::time::timeout(Duration::from_secs(1), spy.next()).await {
        messages.push(message?.data);
    }
    Ok(secrets)
}

/// None of these files holds a secret but those that are made for one, which are their owner's alone.
fn assert_clean(secrets: &Secrets, files: &[PathBuf]) -> anyhow::Result<()> {
    for path in files {
        // What goes between two looks, such as a journal of the database, is looked at when it is there.
        let Ok(bytes) = std::fs::read(path) else { continue };
        let held = found(secrets, &bytes);
        if OWN.iter().any(|own| path.ends_with(own)) {
            let mode = std::fs::metadata(path)?.permissions().mode() & 0o777;
            assert_eq!((mode, held.len()), (0o600, 1), "{}: {mode:o} {held:?}", path.display());
        } else {
            assert_eq!(held, Vec::<&str>::new(), "{}", path.display());
        }
    }
    Ok(())
}

#[tokio::test]
async fn after_a_lively_run_no_secret_stands_anywhere_but_in_its_owners_file() -> anyhow::Result<()> {
    let broker = VirtualHost::new().await?;
    let folder = tempfile::tempdir()?;
    let cluster = start(&broker, &folder.path().join("amqp")).await?;
    let (mut spy, mut messages) = (Spy::new(&broker.uri()).await?, Vec::new());
    let secrets = live(&cluster, &mut spy, &mut messages).await?;
    assert!(messages.len() >= 4, "{} messages", messages.len());
    for message in &messages {
        assert_eq!(found(&secrets, message), Vec::<&str>::new(), "{}", String::from_utf8_lossy(message));
    }
    let all = files(&cluster.path(""))?;
    for there in ["catalogue.sqlite", "catalogue.sqlite-wal", "file-server.db", "file-server.db-wal", "info-server.log"]
    {
        assert!(all.iter().any(|path| path.ends_with(there)), "{there} is not among {all:?}");
    }
    assert_clean(&secrets, &all)?;
    for server in processes(&cluster) {
        for (what, bytes) in surroundings(server.pid()?)? {
            assert_eq!(found(&secrets, &bytes), Vec::<&str>::new(), "{what}");
        }
        assert_eq!(listening(server.pid()?)?, BTreeSet::from([server.address()]), "open ports");
        assert!(server.address().ip().is_loopback());
    }
    Ok(())
}

#[tokio::test]
async fn nothing_has_a_secret_by_default_and_nobody_is_let_in_before_an_account_is_made() -> anyhow::Result<()> {
    for program in ["ddm-info-server", "ddm-file-server", "ddm-client"] {
        let help = command(program)?.arg("--help").output().await?;
        let help = String::from_utf8(help.stdout)?;
        for flag in help.split("\n  -").filter(|flag| {
            let name = flag.split_whitespace().next().unwrap_or_default();
            ["secret", "password", "token", "amqp"].iter().any(|word| name.contains(word))
        }) {
            assert!(!flag.contains("[default:") || flag.starts_with("-token"), "{program}: {flag}");
        }
    }
    // Everything listens on loopback unless it is told otherwise.
    for (program, default) in [("ddm-info-server", "127.0.0.1:8000"), ("ddm-file-server", "127.0.0.1:9000")] {
        let help = command(program)?.arg("--help").output().await?;
        assert!(String::from_utf8(help.stdout)?.contains(&format!("[default: {default}]")), "{program}");
    }
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("data").display().to_string();
    let args = ["--data", &data, "--listen", "127.0.0.1:0"];
    let server = Server::start("ddm-info-server", &args, &folder.path().join("log")).await?;
    let http = reqwest::Client::builder().no_proxy().build()?;
    for (email, password) in [("admin", "admin"), ("admin@example.org", "password"), ("root", ""), ("ddm", "ddm")] {
        let body = json!({ "email": email, "password": password });
        let answer = http.post(format!("http://{}/v1/sessions", server.address())).json(&body).send().await?;
        assert_ne!(answer.status(), StatusCode::CREATED, "{email}");
    }
    let users = command("ddm-info-server")?.args(["--data", &data, "user", "list"]).output().await?;
    assert!(!String::from_utf8(users.stdout)?.contains('@'), "there is an account already");
    let secrets: Vec<String> = vec![std::fs::read_to_string(folder.path().join("data/join-secret"))?];
    let other = folder.path().join("other").display().to_string();
    let args = ["--data", &other, "--listen", "127.0.0.1:0"];
    let _other = Server::start("ddm-info-server", &args, &folder.path().join("other.log")).await?;
    let made = std::fs::read_to_string(folder.path().join("other/join-secret"))?;
    assert!(!secrets.contains(&made) && made.trim().len() >= 32, "every installation makes its own");
    Ok(())
}
