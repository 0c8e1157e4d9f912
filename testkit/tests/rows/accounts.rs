//! S1, S2: accounts and sessions.

use std::time::Duration;

use anyhow::ensure;
use ddm_testkit::cluster::{ADMIN, Cluster, PASSWORD, Plan};
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
    assert!(run(&["logout"], "").await?.status.success());
    assert_eq!(list_status(&cluster, &token).await?, StatusCode::UNAUTHORIZED);
    let after = run(&["list"], "").await?;
    assert_eq!(after.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&after.stderr).contains("ddm-client login"));
    Ok(())
}
