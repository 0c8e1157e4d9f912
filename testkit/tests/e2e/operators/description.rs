//! Requests that fit the descriptions of the servers, and requests that do not.

use anyhow::{Context as _, ensure};
use ddm_testkit::cluster::{Cluster, Plan, STEP_TIMEOUT, run_with_input};
use rand::{Rng as _, RngExt as _, SeedableRng as _, rngs::SmallRng};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::{download_token, logs, python, server_url};
use crate::content::{MIB, file};

/// Printed with every failure, so that it can be seen again.
const SEED: u64 = 52;

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

/// Checks that each operation was carried out at least once: a run that was only ever refused has shown nothing.
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

#[tokio::test]
async fn the_info_server_answers_people_as_its_description_says_whatever_they_send() -> anyhow::Result<()> {
    // No origin is asked for the made-up URLs, and no resolver for their names.
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
    // The generator guesses neither the hash of a token nor a job or its fences.
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
    // A whole chunk with its digest is sent by the client above, and not by the generator, which makes bytes up.
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
