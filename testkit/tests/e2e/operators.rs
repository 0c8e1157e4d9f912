//! F52 and what operators look at: descriptions, Metalinks, metrics, traces.

mod description;
mod metalink;

use std::time::Duration;

use anyhow::{Context as _, ensure};
use ddm_testkit::{
    cluster::{Cluster, Plan, STEP_TIMEOUT, events, run_with_input},
    process::{eventually, tool},
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::content::{MIB, event, file, number};

/// A program of the environment that `./test` makes from `requirements.txt`.
fn python(name: &str) -> anyhow::Result<Command> {
    let test = std::env::current_exe()?;
    let path = test.ancestors().nth(3).context("a test runs three folders below target")?.join("python/bin").join(name);
    ensure!(path.is_file(), "{} is not installed: run ./test, which does so", path.display());
    Ok(tool(path))
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
    let logged = async || {
        let logs = logs(&cluster)?;
        Ok(logs.iter().all(|log| log.contains(&trace)).then_some(logs))
    };
    let logs = eventually("every server has logged its part", STEP_TIMEOUT, logged).await?;
    for (n, log) in logs.iter().enumerate() {
        let lines: Vec<&str> = log.lines().filter(|line| line.contains(&trace)).collect();
        let line: Value = serde_json::from_str(lines.first().context("a line")?)?;
        assert_eq!(line["span"]["trace"], trace.as_str(), "{line}");
        assert!(line["span"]["route"].as_str().unwrap().starts_with("/v1/files/{id}"), "{line}");
        // However many requests it took: one line for each, and no more than a few.
        assert!(lines.len() <= 4, "server {n}: {lines:#?}");
    }
    assert!(number(&done["report"]["fetched"]) == 24 * MIB);

    // A made-up identifier leads to no trace.
    let made_up = "00-00000000000000000000000000000000-0000000000000000-01";
    cluster.request(Method::GET, "/v1/files").header("traceparent", made_up).send().await?.error_for_status()?;
    let log = cluster.info.as_ref().unwrap().log()?;
    assert!(!log.contains("\"trace\":\"00000000000000000000000000000000\""));

    let missing = cluster.run_client(&["--json", &wire::FileId::new().to_string()]).await?;
    let error = events(&missing)?.into_iter().find(|event| event["event"] == "error").context("an error")?;
    let trace = error["trace"].as_str().context("its trace")?.to_owned();
    let logged = async || Ok(cluster.info.as_ref().unwrap().log()?.contains(&trace).then_some(()));
    eventually("the info-server logged the refused request", Duration::from_secs(10), logged).await
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
