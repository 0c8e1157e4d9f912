//! A cluster with a token of every kind, good and bad.

use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};
use ddm_testkit::{
    cluster::{Cluster, PASSWORD, Plan, run_with_input},
    process::tool,
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::Names;
use crate::content::{bytes, file};

/// A bearer, and what it is called here.
pub(super) struct Bearer {
    pub(super) what: &'static str,
    pub(super) text: Option<String>,
}

pub(super) fn bearer(what: &'static str, text: impl Into<String>) -> Bearer {
    Bearer { what, text: Some(text.into()) }
}

/// Everything the row has to do with.
pub(super) struct Fixture {
    pub(super) cluster: Cluster,
    pub(super) content: Vec<u8>,
    pub(super) real: Names,
    pub(super) made_up: Names,
    pub(super) session: BTreeMap<&'static str, String>,
    pub(super) bearers: Vec<Bearer>,
    pub(super) upload: String,
    pub(super) download: String,
    pub(super) servers: Vec<String>,
}

/// A token with its last letter changed: only its checksum is wrong.
fn misspelt(token: &str) -> String {
    let other = if token.ends_with('a') { 'b' } else { 'a' };
    format!("{}{other}", &token[..token.len() - 1])
}

async fn issue(cluster: &Cluster, id: &str, body: Value) -> anyhow::Result<(String, String)> {
    let answer = cluster.request(Method::POST, &format!("/v1/files/{id}/tokens")).json(&body).send().await?;
    let issued: Value = answer.error_for_status()?.json().await?;
    let text = |key: &str| issued[key].as_str().map(str::to_owned).context("a token");
    Ok((text("token")?, text("token_id")?))
}

/// Lets a session's time be over.
async fn expire(cluster: &Cluster, token: &str) -> anyhow::Result<()> {
    const EXPIRE: &str = "import sys, sqlite3, hashlib\nd = sqlite3.connect(sys.argv[1], timeout=20)\n\
        n = d.execute('update sessions set expires_at = 1 where token_hash = ?', \
        (hashlib.sha256(sys.stdin.read().encode()).digest(),)).rowcount\nd.commit()\nassert n == 1";
    let mut python = tool("/usr/bin/python3");
    python.args(["-c", EXPIRE]).arg(cluster.path("info-server/catalogue.sqlite"));
    let output = run_with_input(python, token).await?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

pub(super) async fn fixture() -> anyhow::Result<Fixture> {
    let cluster = Cluster::start(&Plan::zones(&["eu", "us"])).await?;
    let path = file(&cluster, "x.bin", 53, 1000)?;
    let (id, other) = (cluster.publish(&path, &[]).await?, cluster.publish(&path, &[]).await?);
    let mut session = BTreeMap::from([("admin", cluster.token.clone())]);
    for (role, email) in [("publisher", "p@example.org"), ("reader", "r@example.org"), ("victim", "victim@example.org")]
    {
        let granted = if role == "victim" { "reader" } else { role };
        cluster.user(&["add", email, "--role", granted], Some(PASSWORD)).await?;
        session.insert(role, cluster.log_in(email).await?);
    }
    let (ended, expired) = (cluster.log_in("p@example.org").await?, cluster.log_in("p@example.org").await?);
    let out = cluster.http.delete(format!("{}/v1/sessions/current", cluster.info_url())).bearer_auth(&ended);
    ensure!(out.send().await?.status() == StatusCode::NO_CONTENT);
    expire(&cluster, &expired).await?;
    cluster.user(&["add", "shut@example.org"], Some(PASSWORD)).await?;
    let disabled = cluster.log_in("shut@example.org").await?;
    cluster.user(&["disable", "shut@example.org"], None).await?;

    let (download, _) = issue(&cluster, &id, json!({})).await?;
    let (foreign, _) = issue(&cluster, &other, json!({})).await?;
    let (elsewhere, _) = issue(&cluster, &id, json!({ "zones": ["us"] })).await?;
    let (late, _) = issue(&cluster, &id, json!({ "lifetime_s": 1 })).await?;
    let (revoked, revoked_id) = issue(&cluster, &id, json!({})).await?;
    let ended_token = cluster.request(Method::DELETE, &format!("/v1/tokens/{revoked_id}")).send().await?;
    ensure!(ended_token.status() == StatusCode::NO_CONTENT);
    let plan = cluster.request(Method::POST, "/v1/files").json(&json!({ "name": "up.bin", "size": 10 })).send().await?;
    let plan: Value = plan.error_for_status()?.json().await?;
    let upload = plan["upload"]["token"].as_str().context("an upload token")?.to_owned();
    let mut servers = Vec::new();
    for n in 0..2 {
        let identity = std::fs::read(cluster.path(&format!("file-server-{n}/identity.json")))?;
        let identity: Value = serde_json::from_slice(&identity)?;
        servers.push(identity["secret"].as_str().context("a secret")?.to_owned());
    }
    let sessions: Value = cluster.get("/v1/sessions").await?;
    let current = sessions["sessions"][0]["id"].as_str().context("a session")?.to_owned();
    let real = Names { file: id, server: cluster.servers[0].id.clone(), session: current, token: revoked_id };
    let unknown = || wire::FileId::new().to_string();
    let made_up = Names { file: unknown(), server: "fs-nobody".to_owned(), session: unknown(), token: unknown() };
    let bearers = vec![
        Bearer { what: "none", text: None },
        bearer("not a token", "x"),
        bearer("cut short", &session["admin"][..20]),
        bearer("a session, misspelt", misspelt(&session["admin"])),
        bearer("a download token, misspelt", misspelt(&download)),
        bearer("a made-up session", wire::token::Token::generate(wire::token::TokenKind::Session).expose()),
        bearer("a made-up download token", wire::token::Token::generate(wire::token::TokenKind::Download).expose()),
        bearer("a made-up upload token", wire::token::Token::generate(wire::token::TokenKind::Upload).expose()),
        bearer("a made-up server", wire::token::Token::generate(wire::token::TokenKind::Server).expose()),
        bearer("a session that was logged out", ended),
        bearer("a session that expired", expired),
        bearer("a session of a shut account", disabled),
        bearer("a download token of another file", foreign),
        bearer("a download token that expired", late),
        bearer("a download token that was revoked", revoked),
        bearer("a download token of another zone", elsewhere),
    ];
    let content = bytes(53, 1000);
    Ok(Fixture { cluster, content, real, made_up, session, bearers, upload, download, servers })
}
