//! F52 and what operators look at: descriptions, Metalinks, metrics, traces.

use std::{
    path::{Path, PathBuf},
    process::Output,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use ddm_testkit::{
    cluster::{Cluster, Plan, STEP_TIMEOUT, events, run_with_input},
    process::eventually,
};
use rand::{Rng as _, RngExt as _, SeedableRng as _, rngs::SmallRng};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    process::Command,
    time::timeout,
};

use crate::content::{MIB, event, file, number, sha256};

/// Printed with every failure, so that it can be seen again.
const SEED: u64 = 52;

/// A program of the environment that `./test` makes from `requirements.txt`.
fn python(name: &str) -> anyhow::Result<Command> {
    let test = std::env::current_exe()?;
    let path = test.ancestors().nth(3).context("a test runs three folders below target")?.join("python/bin").join(name);
    ensure!(path.is_file(), "{} is not installed: run ./test, which does so", path.display());
    let mut command = Command::new(path);
    command.kill_on_drop(true);
    Ok(command)
}

/// A run of schemathesis, which sends what fits a server's description and what does not.
struct Run<'a> {
    url: &'a str,
    token: &'a str,
    /// Operations, in its own words.
    which: &'a [&'a str],
    /// Paths and the values of their parameters: made-up ids alone would never reach what is behind a 404.
    known: &'a [(&'a str, &'a [(&'a str, &'a str)])],
}

impl Run<'_> {
    async fn conforms(self) -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let mut settings = String::new();
        for (path, values) in self.known {
            let values: Vec<String> =
                values.iter().map(|(name, value)| format!("\"path.{name}\" = \"{value}\"")).collect();
            settings += &format!(
                "[[operations]]\ninclude-path-regex = \"^{path}\"\nparameters = {{ {} }}\n",
                values.join(", ")
            );
        }
        std::fs::write(folder.path().join("schemathesis.toml"), settings)?;
        let mut command = python("schemathesis")?;
        command.current_dir(folder.path()).args(["run", &format!("{}/openapi.json", self.url)]).args(self.which);
        command.args(["--header", &format!("Authorization: Bearer {}", self.token), "--seed", &SEED.to_string()]);
        command.args(["--phases", "examples,coverage,fuzzing", "--max-examples", "15", "--continue-on-failure"]);
        // Not asked: that all is taken that the schema allows, such as a name of spaces.
        command.args(["--checks", "all", "--exclude-checks", "positive_data_acceptance"]);
        // One worker: the parser of CPython 3.11 fails when it is used by several threads.
        command.args(["--workers", "1", "--request-timeout", "40", "--generation-database", "none", "--no-color"]);
        let output = run_with_input(command, "").await?;
        println!("schemathesis on {}, seed {SEED}:\n{}", self.url, tail(&output.stdout));
        ensure!(output.status.success(), "{}\n{}", String::from_utf8_lossy(&output.stdout), tail(&output.stderr));
        Ok(())
    }
}

/// That each operation was carried out at least once: a run that was only ever refused has shown nothing.
async fn assert_reached(cluster: &Cluster, url: &str, tag: &str, but: &[&str]) -> anyhow::Result<()> {
    let description: Value = cluster.http.get(format!("{url}/openapi.json")).send().await?.json().await?;
    let counted = cluster.http.get(format!("{url}/metrics")).send().await?.text().await?;
    let mut reached = 0;
    for (path, item) in description["paths"].as_object().context("paths")? {
        for (method, operation) in item.as_object().context("operations")? {
            let name = operation["operationId"].as_str().context("a name")?;
            if operation["tags"] != json!([tag]) || but.contains(&name) {
                continue;
            }
            let labels = format!("{{method=\"{}\",route=\"{path}\",status=\"2", method.to_uppercase());
            assert!(counted.contains(&labels), "{method} {path} was never carried out:\n{counted}");
            reached += 1;
        }
    }
    assert!(reached > 0, "no operation of {tag}");
    Ok(())
}

fn tail(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}

/// No line of a panic, no failure of ours, in any log.
fn assert_quiet(cluster: &Cluster) -> anyhow::Result<()> {
    for log in logs(cluster)? {
        assert!(!log.contains("panicked") && !log.to_lowercase().contains("a request failed"), "{log}");
    }
    Ok(())
}

/// The logs, the info-server's first.
fn logs(cluster: &Cluster) -> anyhow::Result<Vec<String>> {
    let servers = cluster.servers.iter().filter_map(|server| server.process.as_ref());
    cluster.info.iter().chain(servers).map(ddm_testkit::process::Server::log).collect()
}

fn server_url(cluster: &Cluster, n: usize) -> String {
    format!("http://{}", cluster.servers[n].process.as_ref().unwrap().address())
}

async fn download_token(cluster: &Cluster, id: &str) -> anyhow::Result<String> {
    let answer = cluster.request(Method::POST, &format!("/v1/files/{id}/tokens")).send().await?.error_for_status()?;
    let issued: Value = answer.json().await?;
    Ok(issued["token"].as_str().context("a token")?.to_owned())
}

#[tokio::test]
async fn the_info_server_answers_people_as_its_description_says_whatever_they_send() -> anyhow::Result<()> {
    // Nobody is asked for the URLs that are made up, nor a resolver for their names.
    let info_args = ["--origin-proxy", "http://127.0.0.1:1"].map(str::to_owned).to_vec();
    let cluster = Cluster::start(&Plan { info_args, ..Plan::zones(&["eu", "eu"]) }).await?;
    let id = cluster.publish(&file(&cluster, "x.bin", 1, MIB)?, &[]).await?;
    let (url, token) = (cluster.info_url(), cluster.token.as_str());
    // Logging out would end the run, and so would the session's own id, which the list of sessions gives away.
    let which = ["--exclude-tag", "File servers", "--exclude-operation-id", "delete_session", "--exclude-operation-id"];
    // A stream of events has no end to wait for.
    let which = [&which[..], &["delete_named_session", "--exclude-operation-id", "show_job_events"]].concat();
    Run { url, token, which: &which, known: &[] }.conforms().await?;
    let which = ["--include-tag", "Files", "--exclude-operation-id", "delete_file"];
    Run { url, token, which: &which, known: &[("/v1/files/\\\\{id\\\\}", &[("id", &id)])] }.conforms().await?;
    // A zone that has servers, and a file that only servers know, are nothing a description can name.
    assert_reached(&cluster, url, "Files", &["adopt_file", "delete_file", "delete_token", "preheat_file"]).await?;
    assert_reached(&cluster, url, "Accounts", &["delete_session", "delete_named_session"]).await?;
    Run { url, token, which: &["--include-operation-id", "delete_named_session"], known: &[] }.conforms().await?;
    assert_quiet(&cluster)
}

#[tokio::test]
async fn the_info_server_answers_file_servers_as_its_description_says_whatever_they_send() -> anyhow::Result<()> {
    let cluster = Cluster::start(&Plan::zones(&["eu"])).await?;
    let id = cluster.publish(&file(&cluster, "x.bin", 1, MIB)?, &["--quorum", "1"]).await?;
    let identity: Value = serde_json::from_slice(&std::fs::read(cluster.path("file-server-0/identity.json"))?)?;
    let (server, token) = (cluster.servers[0].id.as_str(), identity["secret"].as_str().context("a secret")?);
    let known: [(&str, &[(&str, &str)]); 2] =
        [("/v1/servers/", &[("id", server)]), ("/v1/files/", &[("id", &id), ("server", server)])];
    // Leaving would end the run.
    let which = ["--include-tag", "File servers", "--exclude-operation-id", "delete_server"];
    Run { url: cluster.info_url(), token, which: &which, known: &known }.conforms().await?;
    // Nobody guesses the hash of a token, nor a job or its fences.
    let but = ["delete_server", "introspect_token", "claim_lease", "report_lease"];
    assert_reached(&cluster, cluster.info_url(), "File servers", &but).await?;
    assert_quiet(&cluster)
}

#[tokio::test]
async fn a_file_server_answers_as_its_description_says_whatever_it_is_sent() -> anyhow::Result<()> {
    let cluster = Cluster::start(&Plan::zones(&["eu", "eu"])).await?;
    let id = cluster.publish(&file(&cluster, "x.bin", 1, MIB)?, &[]).await?;
    let token = download_token(&cluster, &id).await?;
    let url = server_url(&cluster, 0);
    let known: [(&str, &[(&str, &str)]); 1] = [("/v1/files/", &[("id", &id)])];
    let which = ["--exclude-operation-id", "put_chunk"];
    Run { url: &url, token: &token, which: &which, known: &known }.conforms().await?;
    Run { url: &url, token: &token, which: &which, known: &[] }.conforms().await?;
    assert_reached(&cluster, &url, "Content", &[]).await?;

    let plan = json!({ "name": "y.bin", "size": 3 * MIB });
    let plan: Value = cluster.request(Method::POST, "/v1/files").json(&plan).send().await?.json().await?;
    let (id, token) = (plan["id"].as_str().context("an id")?, plan["upload"]["token"].as_str().context("a token")?);
    let known: [(&str, &[(&str, &str)]); 1] = [("/v1/files/", &[("id", id)])];
    Run { url: &url, token, which: &["--include-tag", "Uploads"], known: &known }.conforms().await?;
    // A whole chunk with its digest is sent by the client above, and by nobody who makes bytes up.
    assert_reached(&cluster, &url, "Uploads", &[]).await?;
    assert_quiet(&cluster)
}

#[tokio::test]
async fn raw_bytes_on_either_listener_bring_no_panic_and_no_failure() -> anyhow::Result<()> {
    let cluster = Cluster::start(&Plan::zones(&["eu"])).await?;
    let mut rng = SmallRng::seed_from_u64(SEED);
    let heads = [
        "GET /v1/files HTTP/1.1\r\nHost: x\r\n\r\n",
        "POST /v1/sessions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 20\r\n\r\n{\"email\":\"a\",\"passwo",
        "GET /v1/files/01890a5d-ac96-774b-bcce-b302099a8057/content HTTP/1.1\r\nHost: x\r\nRange: bytes=0-1\r\n\r\n",
        "PUT /v1/files/x/chunks/0 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\n\r\n",
    ];
    let addresses =
        [cluster.info_url().trim_start_matches("http://").to_owned(), server_url(&cluster, 0)[7..].to_owned()];
    for round in 0..400 {
        let mut sent = heads[rng.random_range(0..heads.len())].as_bytes().to_vec();
        for _ in 0..rng.random_range(0..8) {
            let at = rng.random_range(0..sent.len());
            sent[at] = rng.random();
        }
        if round % 4 == 0 {
            rng.fill_bytes(&mut sent);
        }
        let mut stream = TcpStream::connect(&addresses[round % 2]).await?;
        // A server that has heard enough may hang up at any time.
        let _ = stream.write_all(&sent).await;
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let _ = timeout(STEP_TIMEOUT, stream.read_to_end(&mut answer)).await.context("the connection is kept")?;
        let status = answer.get(9..12).map(String::from_utf8_lossy);
        // A version that was never made is told so (RFC 9110 §15.6.6).
        let failed = status.is_some_and(|status| status.starts_with('5') && status != "505");
        assert!(!failed, "seed {SEED}, round {round}: {sent:?}");
    }
    assert_eq!(cluster.get("/readyz").await?["status"], "ready");
    assert_quiet(&cluster)
}

#[tokio::test]
async fn the_page_of_the_description_takes_nothing_from_elsewhere() -> anyhow::Result<()> {
    let cluster = Cluster::start(&Plan::default()).await?;
    let page = cluster.http.get(format!("{}/docs", cluster.info_url())).send().await?;
    assert_eq!((page.status(), page.url().path()), (StatusCode::OK, "/docs/index.html"));
    let policy = page.headers()["content-security-policy"].to_str()?.to_owned();
    assert!(policy.starts_with("default-src 'none'") && !policy.contains("http") && !policy.contains('*'), "{policy}");
    let text = page.text().await?;
    let asked = text.split(['"', '\'']).filter(|part| part.ends_with(".js") || part.ends_with(".css"));
    let asked: Vec<&str> = asked.collect();
    assert!(asked.len() >= 3, "{text}");
    for part in asked {
        assert!(!part.contains("//"), "{part} is elsewhere");
        let url = format!("{}/docs/{}", cluster.info_url(), part.trim_start_matches("./"));
        assert_eq!(cluster.http.get(url).send().await?.status(), StatusCode::OK, "{part}");
    }
    Ok(())
}

/// Downloads what a Metalink names with a real aria2.
async fn aria2(cluster: &Cluster, metalink: &Path, token: &str, folder: &str) -> anyhow::Result<Output> {
    let mut aria2 = Command::new("aria2c");
    aria2.kill_on_drop(true).current_dir(cluster.path("")).arg("--metalink-file").arg(metalink);
    aria2.args([
        "--no-conf",
        "--no-netrc",
        "--all-proxy=",
        "--dir",
        folder,
        "--header",
        &format!("Authorization: Bearer {token}"),
    ]);
    // One connection to each server, so that each has its share. It counts them by host, whatever the port.
    aria2.args([
        "--split=3",
        "--max-connection-per-server=3",
        "--min-split-size=1M",
        "--max-tries=3",
        "--retry-wait=1",
    ]);
    aria2.args(["--summary-interval=0", "--console-log-level=info"]);
    run_with_input(aria2, "").await
}

async fn content_bytes(cluster: &Cluster) -> anyhow::Result<Vec<u64>> {
    let mut sent = Vec::new();
    for n in 0..cluster.servers.len() {
        let text = cluster.http.get(format!("{}/metrics", server_url(cluster, n))).send().await?.text().await?;
        let line = text.lines().find_map(|line| line.strip_prefix("ddm_file_server_content_bytes_total "));
        sent.push(line.context("bytes served")?.parse()?);
    }
    Ok(sent)
}

/// A published file, complete on three servers, and the Metalink that the client wrote of it.
async fn with_metalink(size: u64) -> anyhow::Result<(Cluster, String, PathBuf, PathBuf)> {
    let cluster = Cluster::start(&Plan::zones(&["eu", "us", "us"])).await?;
    // No ampersand: of libxml2 aria2 gets it as `&#38;`, and names the file so.
    let path = file(&cluster, "big <bold>.bin", 7, size)?;
    let id = cluster.publish(&path, &[]).await?;
    let complete = async || Ok((cluster.get("/v1/files").await?["files"][0]["live_replicas"] == 3).then_some(()));
    eventually("all three targets have reported", STEP_TIMEOUT, complete).await?;
    let metalink = cluster.path("it.meta4");
    let wrote = cluster.run_client(&["--zone", "eu", "metalink", &id, "-o", "it.meta4"]).await?;
    assert!(wrote.status.success(), "{}", String::from_utf8_lossy(&wrote.stderr));
    Ok((cluster, id, path, metalink))
}

#[tokio::test]
async fn aria2_takes_a_file_from_every_server_that_its_metalink_names() -> anyhow::Result<()> {
    let (cluster, id, path, metalink) = with_metalink(48 * MIB + 5).await?;
    let text = std::fs::read_to_string(&metalink)?;
    assert_eq!((text.matches("priority=\"1\"").count(), text.matches("priority=\"2\"").count()), (1, 2), "{text}");
    assert!(!text.contains("ddmd_") && !text.contains("ddms_"), "a token in a Metalink");
    let output = aria2(&cluster, &metalink, &download_token(&cluster, &id).await?, "got").await?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(sha256(&cluster.path("got/big <bold>.bin"))?, sha256(&path)?);
    let sent = content_bytes(&cluster).await?;
    println!("bytes by server: {sent:?}");
    assert!(sent.iter().all(|bytes| *bytes >= MIB), "{sent:?}");
    Ok(())
}

#[tokio::test]
async fn aria2_finds_a_spoilt_source_by_the_pieces_of_the_metalink() -> anyhow::Result<()> {
    let (cluster, id, path, metalink) = with_metalink(24 * MIB).await?;
    let blob = find(&cluster.path("file-server-1/files"))?.context("a blob")?;
    let mut spoilt = std::fs::read(&blob)?;
    spoilt.iter_mut().step_by(100_000).for_each(|byte| *byte ^= 1);
    // In place: a blob that is shorter for a moment would be noticed and fetched again.
    std::io::Write::write_all(&mut std::fs::File::options().write(true).open(&blob)?, &spoilt)?;
    let output = aria2(&cluster, &metalink, &download_token(&cluster, &id).await?, "got").await?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("hecksum") && said.to_lowercase().contains("fail"), "no piece was found to be wrong: {said}");
    assert_eq!(sha256(&cluster.path("got/big <bold>.bin"))?, sha256(&path)?);
    Ok(())
}

/// The only file below a folder.
fn find(folder: &Path) -> anyhow::Result<Option<PathBuf>> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let found = if path.is_dir() { find(&path)? } else { Some(path) };
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// Reads an exposition with Prometheus' own parser; every sample as `name{label=value,…}` and its value.
async fn samples(cluster: &Cluster, url: &str) -> anyhow::Result<Vec<(String, f64)>> {
    const READ: &str = "import sys, json\nfrom prometheus_client.openmetrics.parser import text_string_to_metric_families as read\n\
        print(json.dumps([[s.name + '{' + ','.join(k + '=' + v for k, v in sorted(s.labels.items())) + '}', s.value] \
        for f in read(sys.stdin.read()) for s in f.samples]))";
    let answer = cluster.http.get(format!("{url}/metrics")).send().await?.error_for_status()?;
    assert!(answer.headers()["content-type"].to_str()?.starts_with("application/openmetrics-text; version=1.0.0"));
    let text = answer.text().await?;
    let mut parser = python("python3")?;
    parser.args(["-c", READ]).stdin(std::process::Stdio::piped());
    let parsed = run_with_input(parser, &text).await?;
    ensure!(parsed.status.success(), "{}\n{text}", String::from_utf8_lossy(&parsed.stderr));
    Ok(serde_json::from_slice(&parsed.stdout)?)
}

fn sample(samples: &[(String, f64)], wanted: &str) -> f64 {
    let found = samples.iter().find(|(name, _)| name == wanted);
    found.unwrap_or_else(|| panic!("no {wanted} among {samples:#?}")).1
}

#[tokio::test]
async fn prometheus_reads_what_both_servers_count() -> anyhow::Result<()> {
    let cluster = Cluster::start(&Plan::zones(&["eu", "eu"])).await?;
    let id = cluster.publish(&file(&cluster, "x.bin", 1, 3 * MIB)?, &[]).await?;
    assert!(cluster.run_client(&["-o", "got.bin", &id]).await?.status.success());
    let wrong = json!({ "email": "nobody@example.org", "password": "not the password" });
    let refused = cluster.http.post(format!("{}/v1/sessions", cluster.info_url())).json(&wrong).send().await?;
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);

    let counted = async || {
        let info = samples(&cluster, cluster.info_url()).await?;
        let refused =
            info.iter().any(|(name, value)| name == "ddm_info_server_logins_total{outcome=refused}" && *value > 0.0);
        Ok(refused.then_some(info))
    };
    let info = eventually("the refused log-in is counted", STEP_TIMEOUT, counted).await?;
    for (name, at_least) in [
        ("ddm_info_server_logins_total{outcome=done}", 1.0),
        ("ddm_info_server_grants_total{}", 1.0),
        ("ddm_info_server_servers_live{zone=eu}", 2.0),
        ("ddm_info_server_files{state=available}", 1.0),
        ("ddm_info_server_replicas{state=complete}", 2.0),
        ("ddm_info_server_requests_total{method=GET,route=/v1/files/{id},status=200}", 1.0),
        ("ddm_info_server_request_duration_seconds_count{route=/v1/files/{id}}", 1.0),
        ("ddm_info_server_outbox_rows{}", 0.0),
        ("ddm_info_server_outbox_age_seconds{}", 0.0),
        ("ddm_info_server_bus{state=connected}", 0.0),
    ] {
        assert!(sample(&info, name) >= at_least, "{name}: {}", sample(&info, name));
    }
    let mut bytes = 0.0;
    for n in 0..2 {
        let counted = samples(&cluster, &server_url(&cluster, n)).await?;
        bytes += sample(&counted, "ddm_file_server_content_bytes_total{}");
        assert_eq!(sample(&counted, "ddm_file_server_registered{}"), 1.0);
        for name in ["requests_running", "tokens_cached", "event_age_seconds", "bodies_running"] {
            assert!(sample(&counted, &format!("ddm_file_server_{name}{{}}")) >= 0.0);
        }
        for name in ["upload_mismatches", "catchups", "introspections", "refused"] {
            assert!(sample(&counted, &format!("ddm_file_server_{name}_total{{}}")) >= 0.0);
        }
    }
    assert!(bytes >= (3 * MIB) as f64, "{bytes}");
    Ok(())
}

#[tokio::test]
async fn made_up_paths_and_methods_make_no_new_series() -> anyhow::Result<()> {
    let cluster = Cluster::start(&Plan::zones(&["eu"])).await?;
    for n in 0..30 {
        let method = Method::from_bytes(format!("M{n}").as_bytes())?;
        for url in [cluster.info_url(), &server_url(&cluster, 0)] {
            cluster.http.request(method.clone(), format!("{url}/v1/files/made-up-{n}")).send().await?;
            cluster.http.get(format!("{url}/made-up-{n}")).send().await?;
        }
    }
    for url in [cluster.info_url(), &server_url(&cluster, 0)] {
        let text = cluster.http.get(format!("{url}/metrics")).send().await?.text().await?;
        assert!(text.contains("route=\"none\"") && text.contains("method=\"other\""), "{text}");
        assert!(!text.contains("made-up") && !text.contains("M17"), "{text}");
    }
    Ok(())
}

#[tokio::test]
async fn one_trace_leads_through_the_logs_of_all_that_worked_for_a_download() -> anyhow::Result<()> {
    let json = vec!["--log-format".to_owned(), "json".to_owned()];
    let plan = Plan { info_args: json.clone(), file_server_args: json, ..Plan::zones(&["eu", "eu"]) };
    let cluster = Cluster::start(&plan).await?;
    let id = cluster.publish(&file(&cluster, "x.bin", 1, 24 * MIB)?, &["--quorum", "2"]).await?;
    let got = cluster.run_client(&["--json", "-o", "got.bin", &id]).await?;
    let trace = event(&got, "start")?["trace"].as_str().context("a trace")?.to_owned();
    let done = event(&got, "done")?;
    assert_eq!(trace.len(), 32);
    let told = async || {
        let logs = logs(&cluster)?;
        Ok(logs.iter().all(|log| log.contains(&trace)).then_some(logs))
    };
    let logs = eventually("every server has told of its part", STEP_TIMEOUT, told).await?;
    for (n, log) in logs.iter().enumerate() {
        let lines: Vec<&str> = log.lines().filter(|line| line.contains(&trace)).collect();
        let line: Value = serde_json::from_str(lines.first().context("a line")?)?;
        assert_eq!(line["span"]["trace"], trace.as_str(), "{line}");
        assert!(line["span"]["route"].as_str().unwrap().starts_with("/v1/files/{id}"), "{line}");
        // However many requests it took: one line for each, and no more than a few.
        assert!(lines.len() <= 4, "server {n}: {lines:#?}");
    }
    assert!(number(&done["report"]["fetched"]) == 24 * MIB);

    // What somebody else made up is nobody's trace.
    let made_up = "00-00000000000000000000000000000000-0000000000000000-01";
    cluster.request(Method::GET, "/v1/files").header("traceparent", made_up).send().await?.error_for_status()?;
    assert!(!logs[0].contains("\"trace\":\"00000000000000000000000000000000\""));

    let missing = cluster.run_client(&["--json", &wire::FileId::new().to_string()]).await?;
    let error = events(&missing)?.into_iter().find(|event| event["event"] == "error").context("an error")?;
    let trace = error["trace"].as_str().context("its trace")?.to_owned();
    let told = async || Ok(cluster.info.as_ref().unwrap().log()?.contains(&trace).then_some(()));
    eventually("the info-server told of the refused request", Duration::from_secs(10), told).await
}

#[tokio::test]
async fn a_state_that_lasts_is_one_line_of_the_log_however_often_it_is_asked_for() -> anyhow::Result<()> {
    let cluster = Cluster::start(&Plan::zones(&["eu"])).await?;
    let (place, aside) = (cluster.path("info-server/lock"), cluster.path("aside"));
    let ready = async || {
        let asked = cluster.http.get(format!("{}/readyz", cluster.info_url())).send().await?;
        anyhow::Ok(asked.status())
    };
    std::fs::rename(&place, &aside)?;
    for _ in 0..20 {
        assert_eq!(ready().await?, StatusCode::SERVICE_UNAVAILABLE);
    }
    std::fs::rename(&aside, &place)?;
    eventually("it is ready again", STEP_TIMEOUT, async || Ok((ready().await? == StatusCode::OK).then_some(())))
        .await?;
    let log = std::fs::read_to_string(cluster.path("info-server.log"))?;
    assert_eq!(log.matches("is not ready").count(), 1, "{log}");
    Ok(())
}
