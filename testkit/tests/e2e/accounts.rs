//! S1, S2, F56: accounts, sessions, throttling, the audit log.

use std::time::{Duration, Instant};

use anyhow::ensure;
use ddm_testkit::{
    cluster::{ADMIN, Cluster, PASSWORD, Plan, run_with_input},
    process::{Server, command},
};
use futures::StreamExt as _;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

async fn log_in(cluster: &Cluster, email: &str, password: &str) -> anyhow::Result<(StatusCode, Value)> {
    let body = json!({ "email": email, "password": password });
    let answer = cluster.http.post(format!("{}/v1/sessions", cluster.info_url())).json(&body).send().await?;
    Ok((answer.status(), answer.json().await?))
}

async fn list_status(cluster: &Cluster, token: &str) -> anyhow::Result<StatusCode> {
    let request = cluster.http.get(format!("{}/v1/files", cluster.info_url())).bearer_auth(token);
    Ok(request.send().await?.status())
}

#[tokio::test]
async fn the_first_account_may_be_older_than_the_first_start_of_the_info_server() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("info").display().to_string();
    let args = ["--data", &data, "--listen", "127.0.0.1:0"];
    for rest in [&["user", "list"][..], &["user", "add", ADMIN, "--role", "admin"]] {
        let mut user = command("ddm-info-server")?;
        user.args(&args[..2]).args(rest);
        let output = run_with_input(user, PASSWORD).await?;
        assert_eq!(output.status.success(), rest.len() > 2, "{output:?}");
    }
    let info = Server::start("ddm-info-server", &args, &folder.path().join("log")).await?;
    let body = json!({ "email": ADMIN, "password": PASSWORD });
    let http = reqwest::Client::builder().no_proxy().build()?;
    let session = http.post(format!("http://{}/v1/sessions", info.address())).json(&body).send().await?;
    assert_eq!(session.status(), StatusCode::CREATED);
    info.kill().await
}

#[tokio::test]
async fn a_login_gives_a_token_with_its_end_and_everything_wrong_gives_401() -> anyhow::Result<()> {
    let cluster = Cluster::start(&Plan::default()).await?;
    let (status, session) = log_in(&cluster, ADMIN, PASSWORD).await?;
    assert_eq!(status, StatusCode::CREATED);
    assert!(session["token"].as_str().is_some_and(|token| token.starts_with("ddms_")), "{session}");
    let ends: jiff::Timestamp = session["expires_at"].as_str().unwrap().parse()?;
    assert!(ends > jiff::Timestamp::now());

    let wrong = log_in(&cluster, ADMIN, "wrong password").await?;
    let unknown = log_in(&cluster, "nobody@example.org", PASSWORD).await?;
    assert_eq!((wrong.0, unknown.0), (StatusCode::UNAUTHORIZED, StatusCode::UNAUTHORIZED));
    assert_eq!(wrong.1, unknown.1, "the answer must not tell whether there is such an account");

    cluster.user(&["add", "reader@example.org"], Some(PASSWORD)).await?;
    let token = cluster.log_in("reader@example.org").await?;
    assert_eq!(list_status(&cluster, &token).await?, StatusCode::OK);
    cluster.user(&["disable", "reader@example.org"], None).await?;
    assert_eq!(log_in(&cluster, "reader@example.org", PASSWORD).await?.0, StatusCode::UNAUTHORIZED);
    assert_eq!(list_status(&cluster, &token).await?, StatusCode::UNAUTHORIZED);
    Ok(())
}

#[tokio::test]
async fn a_session_ends_at_its_time_and_at_logout() -> anyhow::Result<()> {
    let lifetime = ddm_testkit::window(Duration::from_secs(1), Duration::from_secs(60));
    let args = vec!["--session-lifetime".to_owned(), format!("{}s", lifetime.as_secs())];
    let cluster = Cluster::start(&Plan { info_args: args, ..Plan::default() }).await?;
    let (_, session) = log_in(&cluster, ADMIN, PASSWORD).await?;
    let token = session["token"].as_str().unwrap();
    let limit = lifetime + Duration::from_secs(5);
    ddm_testkit::process::eventually("the session has ended", limit, async || {
        Ok((list_status(&cluster, token).await? == StatusCode::UNAUTHORIZED).then_some(()))
    })
    .await?;
    let ends: jiff::Timestamp = session["expires_at"].as_str().unwrap().parse()?;
    assert!(ends <= jiff::Timestamp::now(), "it ended before its time");

    let cluster = Cluster::start(&Plan::default()).await?;
    let gone = cluster.request(Method::DELETE, "/v1/sessions/current").send().await?;
    assert_eq!(gone.status(), StatusCode::NO_CONTENT);
    assert_eq!(list_status(&cluster, &cluster.token).await?, StatusCode::UNAUTHORIZED);
    Ok(())
}

#[tokio::test]
async fn an_admin_makes_accounts_and_others_only_where_registration_is_open() -> anyhow::Result<()> {
    let new = |email: &str, role: &str| json!({ "email": email, "password": PASSWORD, "role": role });
    let closed = Cluster::start(&Plan::default()).await?;
    let made = closed.request(Method::POST, "/v1/users").json(&new("p@example.org", "publisher")).send().await?;
    assert_eq!(made.status(), StatusCode::CREATED);
    let token = closed.log_in("p@example.org").await?;
    let users = format!("{}/v1/users", closed.info_url());
    let by_publisher = closed.http.post(&users).bearer_auth(token).json(&new("x@example.org", "reader")).send().await?;
    let by_nobody = closed.http.post(&users).json(&new("x@example.org", "reader")).send().await?;
    let again = closed.request(Method::POST, "/v1/users").json(&new("P@example.org", "reader")).send().await?;
    assert_eq!(by_publisher.status(), StatusCode::FORBIDDEN);
    assert_eq!(by_nobody.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(again.status(), StatusCode::CONFLICT);

    let open = Cluster::start(&Plan { info_args: vec!["--open-registration".to_owned()], ..Plan::default() }).await?;
    let users = format!("{}/v1/users", open.info_url());
    let reader = open.http.post(&users).json(&new("r@example.org", "reader")).send().await?;
    let admin = open.http.post(&users).json(&new("a@example.org", "admin")).send().await?;
    assert_eq!((reader.status(), admin.status()), (StatusCode::CREATED, StatusCode::UNAUTHORIZED));
    let token = open.log_in("r@example.org").await?;
    let publish = open.http.post(format!("{}/v1/files", open.info_url())).bearer_auth(token);
    assert_eq!(publish.json(&json!({ "name": "x", "size": 1 })).send().await?.status(), StatusCode::FORBIDDEN);
    Ok(())
}

#[tokio::test]
async fn the_client_keeps_its_login_to_itself_and_forgets_it_at_logout() -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let cluster = Cluster::start(&Plan::default()).await?;
    let logins = cluster.path("mine.json");
    let run = async |args: &[&str], input: &'static str| {
        let mut client = ddm_testkit::process::command("ddm-client")?;
        client.env("HOME", cluster.path("")).arg("--session-file").arg(&logins);
        client.args(["--info", cluster.info_url()]).args(args);
        ddm_testkit::cluster::run_with_input(client, input).await
    };
    let refused = run(&["login", ADMIN], "not the password\n").await?;
    assert_eq!(refused.status.code(), Some(1));
    assert!(!logins.exists());
    let done = run(&["login", ADMIN], PASSWORD).await?;
    ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(std::fs::metadata(&logins)?.permissions().mode() & 0o777, 0o600);
    assert!(!std::fs::read_to_string(&logins)?.contains(PASSWORD));
    assert!(run(&["list"], "").await?.status.success());

    std::fs::set_permissions(&logins, std::fs::Permissions::from_mode(0o644))?;
    let exposed = run(&["list"], "").await?;
    assert_eq!(exposed.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&exposed.stderr).contains("chmod 600"));
    std::fs::set_permissions(&logins, std::fs::Permissions::from_mode(0o600))?;

    let kept: Value = serde_json::from_str(&std::fs::read_to_string(&logins)?)?;
    let token = kept[cluster.info_url()]["token"].as_str().unwrap().to_owned();
    // With a clock that is ahead, the login looks ended here. The info-server judges that, and it still works.
    let mut aged = kept.clone();
    aged[cluster.info_url()]["expires_at"] = json!("2020-01-01T00:00:00Z");
    ddm_testkit::process::write_private(&logins, aged.to_string().as_bytes())?;
    assert!(run(&["list"], "").await?.status.success());
    let ended = run(&["logout"], "").await?;
    assert_eq!((ended.status.code(), String::from_utf8_lossy(&ended.stdout).trim()), (Some(0), "Logged out."));
    assert_eq!(list_status(&cluster, &token).await?, StatusCode::UNAUTHORIZED);
    let after = run(&["list"], "").await?;
    assert_eq!(after.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&after.stderr).contains("ddm-client login"));
    Ok(())
}

/// Sends a request with or without a token.
async fn ask(cluster: &Cluster, method: Method, path: &str, token: &str, body: Value) -> anyhow::Result<StatusCode> {
    let request = cluster.http.request(method, format!("{}{path}", cluster.info_url())).bearer_auth(token);
    let request = if body.is_null() { request } else { request.json(&body) };
    Ok(request.send().await?.status())
}

/// F56: guesses are soon refused with the time to wait, whether or not there is such an account; a success costs nothing.
#[tokio::test]
async fn guessing_is_throttled_and_the_owner_is_not_locked_out() -> anyhow::Result<()> {
    let trusted = vec!["--trusted-proxies".to_owned(), "127.0.0.1".to_owned()];
    let cluster = Cluster::start(&Plan { info_args: trusted, ..Plan::default() }).await?;
    let try_from = async |from: &str, email: &str, password: &str| {
        let body = json!({ "email": email, "password": password });
        let request = cluster.http.post(format!("{}/v1/sessions", cluster.info_url())).json(&body);
        anyhow::Ok(request.header("X-Forwarded-For", from).send().await?)
    };
    assert_eq!(try_from("192.0.2.1", ADMIN, PASSWORD).await?.status(), StatusCode::CREATED);
    let mut failed = Vec::new();
    for email in [ADMIN, "nobody@example.org"] {
        let mut refused = 0;
        for n in 0..30 {
            let answer = try_from("198.51.100.7", email, "wrong password").await?;
            if answer.status() == StatusCode::TOO_MANY_REQUESTS {
                let wait: u32 = answer.headers()["retry-after"].to_str()?.parse()?;
                assert!((1..=60).contains(&wait), "{wait}");
                assert_eq!(answer.headers()["content-type"], "application/problem+json");
                refused += 1;
            } else {
                assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{n}");
            }
        }
        failed.push(30 - refused);
    }
    assert!(failed.iter().all(|failed| (10..=12).contains(failed)), "looked at {failed:?} of 30 guesses each");
    assert_eq!(try_from("198.51.100.7", ADMIN, PASSWORD).await?.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(try_from("192.0.2.1", ADMIN, PASSWORD).await?.status(), StatusCode::CREATED, "the owner is at home");
    let log = cluster.get("/v1/audit?kind=login-throttled").await?;
    let throttled: u64 = log["entries"].as_array().unwrap().iter().filter_map(|entry| entry["count"].as_u64()).sum();
    assert!((36..=41).contains(&throttled), "{log}");
    assert!(log["entries"].as_array().unwrap().len() <= 2, "{log}");
    Ok(())
}

/// F56: how long it takes to refuse a password does not tell whether there is such an account.
#[tokio::test]
async fn a_wrong_password_takes_as_long_as_an_unknown_account() -> anyhow::Result<()> {
    let trusted = vec!["--trusted-proxies".to_owned(), "127.0.0.1".to_owned()];
    let cluster = Cluster::start(&Plan { info_args: trusted, ..Plan::default() }).await?;
    cluster.user(&["add", "shut@example.org"], Some(PASSWORD)).await?;
    cluster.user(&["disable", "shut@example.org"], None).await?;
    let emails = [ADMIN, "nobody@example.org", "shut@example.org"];
    // Whatever else this machine does may meet one more than the others: then it is measured again. Always a different one would be
    // slower or quicker if it told.
    let mut seen = Vec::new();
    for set in 0..5 {
        let mut quickest = [Duration::MAX; 3];
        // In turns, and few enough that none is throttled.
        for round in 0..8 {
            for (email, quickest) in emails.iter().zip(&mut quickest) {
                let body = json!({ "email": email, "password": "wrong password" });
                let request = cluster.http.post(format!("{}/v1/sessions", cluster.info_url())).json(&body);
                let asked = Instant::now();
                let answer = request.header("X-Forwarded-For", format!("192.0.{set}.{round}")).send().await?;
                *quickest = (*quickest).min(asked.elapsed());
                assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
            }
        }
        let known = quickest[0];
        // What a password's hash takes at the least.
        assert!(quickest.iter().all(|time| *time > Duration::from_millis(3)), "nothing was hashed: {quickest:?}");
        if quickest.iter().all(|time| *time > known.mul_f64(0.7) && *time < known.mul_f64(1.5)) {
            return Ok(());
        }
        seen.push(quickest);
    }
    panic!("refusing takes a time that tells of accounts: {seen:?}");
}

/// F56: what is hashed in leaves no memory behind, however many come.
#[tokio::test]
async fn two_thousand_log_ins_leave_the_server_small() -> anyhow::Result<()> {
    let cluster = Cluster::start(&Plan::default()).await?;
    let count = if std::env::var("DDM_TEST_WINDOWS").is_ok_and(|windows| windows == "real") { 2_000 } else { 300 };
    // More at once would be taken for guesses until the first of them are known to be right.
    let flood = futures::stream::iter(0..count).map(|_| log_in(&cluster, ADMIN, PASSWORD));
    let outcomes: Vec<_> = flood.buffer_unordered(8).collect().await;
    for outcome in outcomes {
        let (status, answer) = outcome?;
        assert_eq!(status, StatusCode::CREATED, "{answer}");
    }
    let resident = cluster.info.as_ref().unwrap().resident()?;
    println!("{count} log-ins; {} MiB resident", resident >> 20);
    assert!(resident < 110 << 20, "{} MiB", resident >> 20);
    Ok(())
}

#[tokio::test]
async fn sessions_are_seen_and_ended_by_their_owner_and_by_admins_alone() -> anyhow::Result<()> {
    let cluster = Cluster::start(&Plan::default()).await?;
    cluster.user(&["add", "r@example.org"], Some(PASSWORD)).await?;
    let (mine, other) = (cluster.log_in("r@example.org").await?, cluster.log_in("r@example.org").await?);
    let list = async |token: &str| {
        let request = cluster.http.get(format!("{}/v1/sessions", cluster.info_url())).bearer_auth(token);
        anyhow::Ok(request.send().await?.error_for_status()?.json::<Value>().await?["sessions"].clone())
    };
    let open = list(&mine).await?;
    assert_eq!(open.as_array().unwrap().len(), 2);
    assert_eq!((&open[0]["current"], &open[1]["current"]), (&json!(false), &json!(true)), "newest first");
    assert_eq!(open[0]["address"], "127.0.0.1");
    assert!(!open.to_string().contains("ddms_"));

    let admins = list(&cluster.token).await?[0]["id"].as_str().unwrap().to_owned();
    let (path, nothing) = (format!("/v1/sessions/{admins}"), Value::Null);
    assert_eq!(ask(&cluster, Method::DELETE, &path, &mine, nothing.clone()).await?, StatusCode::NOT_FOUND);
    let path = format!("/v1/sessions/{}", open[0]["id"].as_str().unwrap());
    assert_eq!(ask(&cluster, Method::DELETE, &path, &cluster.token, nothing.clone()).await?, StatusCode::NO_CONTENT);
    assert_eq!(list_status(&cluster, &other).await?, StatusCode::UNAUTHORIZED);
    let third = cluster.log_in("r@example.org").await?;
    assert_eq!(ask(&cluster, Method::DELETE, "/v1/sessions", &mine, nothing).await?, StatusCode::NO_CONTENT);
    assert_eq!(list_status(&cluster, &third).await?, StatusCode::UNAUTHORIZED);
    assert_eq!(list_status(&cluster, &mine).await?, StatusCode::OK);

    let shown = cluster.run_client(&["--json", "sessions"]).await?;
    assert!(shown.status.success(), "{}", String::from_utf8_lossy(&shown.stderr));
    assert_eq!(ddm_testkit::cluster::events(&shown)?.len(), 1);
    assert!(cluster.run_client(&["sessions", "--others"]).await?.status.success());
    assert!(cluster.run_client(&["sessions", "close", &admins]).await?.status.success());
    assert_eq!(list_status(&cluster, &cluster.token).await?, StatusCode::UNAUTHORIZED);
    Ok(())
}

#[tokio::test]
async fn admins_change_accounts_over_http_and_every_change_is_audited() -> anyhow::Result<()> {
    let cluster = Cluster::start(&Plan::default()).await?;
    cluster.user(&["add", "r@example.org"], Some(PASSWORD)).await?;
    let reader = cluster.log_in("r@example.org").await?;
    let (path, admin) = ("/v1/users/r@example.org", cluster.token.as_str());
    let role = json!({ "role": "publisher" });
    assert_eq!(ask(&cluster, Method::PATCH, path, &reader, role.clone()).await?, StatusCode::FORBIDDEN);
    assert_eq!(ask(&cluster, Method::GET, "/v1/users", &reader, Value::Null).await?, StatusCode::FORBIDDEN);
    assert_eq!(ask(&cluster, Method::GET, "/v1/audit", &reader, Value::Null).await?, StatusCode::FORBIDDEN);
    assert_eq!(ask(&cluster, Method::PATCH, path, admin, role).await?, StatusCode::NO_CONTENT);
    let fresh = json!({ "password": "another long password" });
    assert_eq!(ask(&cluster, Method::PATCH, path, admin, fresh).await?, StatusCode::NO_CONTENT);
    assert_eq!(list_status(&cluster, &reader).await?, StatusCode::UNAUTHORIZED, "a new password ends sessions");
    assert_eq!(log_in(&cluster, "r@example.org", PASSWORD).await?.0, StatusCode::UNAUTHORIZED);
    assert_eq!(log_in(&cluster, "r@example.org", "another long password").await?.0, StatusCode::CREATED);
    let users = cluster.get("/v1/users").await?;
    let id = users["users"][1]["id"].as_i64().unwrap();
    let (by_id, shut) = (format!("/v1/users/{id}"), json!({ "disabled": true }));
    assert_eq!(ask(&cluster, Method::PATCH, &by_id, admin, shut.clone()).await?, StatusCode::NO_CONTENT);
    let last = format!("/v1/users/{ADMIN}");
    assert_eq!(ask(&cluster, Method::PATCH, &last, admin, shut.clone()).await?, StatusCode::CONFLICT);
    assert!(cluster.user(&["disable", ADMIN], None).await.is_err(), "nor on the terminal");
    assert_eq!(ask(&cluster, Method::PATCH, "/v1/users/x@y", admin, shut).await?, StatusCode::NOT_FOUND);

    let log = cluster.get("/v1/audit?limit=1000").await?;
    for (kind, times) in [("user-added", 2), ("user-changed", 3), ("login", 3), ("login-failed", 1), ("settings", 1)] {
        let rows = log["entries"].as_array().unwrap().iter().filter(|entry| entry["kind"] == kind).count();
        assert_eq!(rows, times, "{kind}: {log}");
    }
    assert!(!log.to_string().contains(PASSWORD) && !log.to_string().contains("another long password"));
    let mut terminal = ddm_testkit::process::command("ddm-info-server")?;
    terminal.arg("--data").arg(cluster.path("info-server")).args(["audit", "--json", "--kind", "user-changed"]);
    let shown = terminal.output().await?;
    assert_eq!(ddm_testkit::cluster::events(&shown)?.len(), 3, "{}", String::from_utf8_lossy(&shown.stderr));
    Ok(())
}

#[tokio::test]
async fn damaged_logins_are_set_aside_and_do_not_keep_anyone_from_logging_in() -> anyhow::Result<()> {
    let cluster = Cluster::start(&Plan::default()).await?;
    let logins = cluster.path("damaged.json");
    let run = async |args: &[&str], input: &'static str| {
        let mut client = ddm_testkit::process::command("ddm-client")?;
        client.env("HOME", cluster.path("")).arg("--session-file").arg(&logins);
        client.args(["--info", cluster.info_url()]).args(args);
        ddm_testkit::cluster::run_with_input(client, input).await
    };
    for args in [&["login", ADMIN][..], &["logout"]] {
        ddm_testkit::process::write_private(&logins, b"{ \"ddms_secret\": ")?;
        let done = run(args, PASSWORD).await?;
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.success() && said.contains("renamed it to"), "{args:?}: {said}");
        assert!(!said.contains("ddms_secret"), "{said}");
        assert!(cluster.path("damaged.json.damaged").exists());
    }
    let wrong = run(&["login", ADMIN], "wrong password").await?;
    let said = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert!(said.contains("Wrong e-mail or password") && !said.contains("token"), "{said}");
    Ok(())
}
