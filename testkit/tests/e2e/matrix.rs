//! F53: every kind of token against every route of both listeners. The routes come from the servers' own descriptions: one
//! that has no entry in `gates` fails the row, and so does an answer that is not the one in `matrix/answers.txt`.

mod answers;
mod gates;

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, ensure};
use ddm_testkit::{
    cluster::{Cluster, PASSWORD, Plan, STEP_TIMEOUT, run_with_input},
    process::{eventually, tool},
};
use reqwest::{Method, StatusCode, header};
use serde_json::{Value, json};

use self::{
    answers::{Answers, Asked},
    gates::{FILE_SERVER, Gate, INFO},
};
use crate::content::{bytes, file};

/// A route as its server describes it.
struct Route {
    gate: &'static Gate,
    method: Method,
    path: String,
}

/// All routes of a listener.
async fn routes(cluster: &Cluster, url: &str, gates: &'static [Gate]) -> anyhow::Result<Vec<Route>> {
    let description: Value = cluster.http.get(format!("{url}/openapi.json")).send().await?.json().await?;
    let mut routes = Vec::new();
    for (path, item) in description["paths"].as_object().context("paths")? {
        for (method, operation) in item.as_object().context("operations")? {
            let name = operation["operationId"].as_str().context("a name")?;
            let gate = gates.iter().find(|gate| gate.operation == name);
            let gate = gate.with_context(|| format!("{method} {path} ({name}) has no entry in the matrix"))?;
            let described = operation["security"].as_array().context("security")?;
            let described: Vec<&str> =
                described.iter().filter_map(|one| one.as_object()?.keys().next().map(String::as_str)).collect();
            assert_eq!(described, gate.kinds, "{method} {path} ({name}) is described otherwise than it is meant");
            routes.push(Route { gate, method: method.to_uppercase().parse()?, path: path.clone() });
        }
    }
    for gate in gates {
        ensure!(routes.iter().any(|route| route.gate.operation == gate.operation), "{} is no route", gate.operation);
    }
    Ok(routes)
}

/// Names that are put into paths: of objects that exist, or that do not.
struct Names {
    file: String,
    server: String,
    session: String,
    token: String,
}

impl Names {
    fn path(&self, route: &Route) -> String {
        let id = match route.path.split('/').nth(2) {
            Some("servers") => &self.server,
            Some("sessions") => &self.session,
            _ => &self.file,
        };
        let values =
            [("id", id.as_str()), ("server", &self.server), ("token_id", &self.token), ("user", "victim@example.org")];
        let path =
            values.iter().fold(route.path.clone(), |path, (name, value)| path.replace(&format!("{{{name}}}"), value));
        path.replace("{n}", "0").replace("{fence}", "1").replace("{file}", "index.html")
    }
}

/// A bearer, and what it is called here.
struct Bearer {
    what: &'static str,
    text: Option<String>,
}

fn bearer(what: &'static str, text: impl Into<String>) -> Bearer {
    Bearer { what, text: Some(text.into()) }
}

/// A body that the route would take, so that nothing but the token is wrong.
fn body(route: &Route) -> Option<Value> {
    Some(match route.gate.operation {
        "create_file" => json!({ "name": "y.bin", "size": 1 }),
        "adopt_file" => {
            json!({ "name": "y.bin", "size": 0, "chunk_size": 1 << 20, "sha256": "0".repeat(64), "chunks": [] })
        }
        "commit_file" => json!({ "sha256": "0".repeat(64), "chunks": [] }),
        // No address that anybody is sent to.
        "create_job" => json!({ "url": "http://127.0.0.1:9/x" }),
        "put_job_progress" => json!({ "runs": [] }),
        "create_token" | "change_user" | "change_policy" | "report_lease" => json!({}),
        "change_file" => json!({ "name": "x.bin" }),
        "preheat_file" => json!({ "zone": "eu" }),
        "put_replica" => json!({ "counter": 1, "runs": [] }),
        "put_server" => {
            let instance = wire::FileId::new().to_string();
            json!({ "zone": "eu", "url": "http://127.0.0.1:9", "instance": instance })
        }
        "reconcile" => json!({ "files": [] }),
        "introspect_token" => json!({ "token_hash": "0".repeat(64) }),
        "create_user" => json!({ "email": "new@example.org", "password": PASSWORD }),
        _ => return None,
    })
}

/// Answer to a request: its status, the fields that describe its subject, and the body.
type Said = (StatusCode, BTreeMap<String, String>, Vec<u8>);

async fn say(cluster: &Cluster, url: &str, route: &Route, names: &Names, token: &Bearer) -> anyhow::Result<Said> {
    let request = cluster.http.request(route.method.clone(), format!("{url}{}", names.path(route)));
    let request = token.text.iter().fold(request, |request, text| request.bearer_auth(text));
    let request = if route.gate.operation == "put_chunk" {
        let digest = "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:";
        request.header("Content-Digest", digest).body("")
    } else {
        body(route).into_iter().fold(request, |request, body| request.json(&body))
    };
    let answer = request.send().await.with_context(|| route.path.clone())?;
    let status = answer.status();
    let told = |name: &header::HeaderName| *name != header::DATE && name.as_str() != "traceparent";
    let head = answer.headers().iter().filter(|(name, _)| told(name));
    let head = head.map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()));
    let head = head.collect();
    Ok((status, head, answer.bytes().await?.to_vec()))
}

/// Everything the row has to do with.
struct Fixture {
    cluster: Cluster,
    content: Vec<u8>,
    real: Names,
    made_up: Names,
    session: BTreeMap<&'static str, String>,
    bearers: Vec<Bearer>,
    upload: String,
    download: String,
    servers: Vec<String>,
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

async fn fixture() -> anyhow::Result<Fixture> {
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

impl Fixture {
    /// The tokens that must not open a route, those that are right somewhere else among them.
    fn wrong(&self, gate: &Gate, listener: &str) -> Vec<(&'static str, &str)> {
        let mut wrong: Vec<_> = vec![];
        for bearer in &self.bearers {
            // It is for a file and not for a place that the info-server tells of it.
            let right = bearer.what == "a download token of another zone"
                && listener == "info-server"
                && gate.kinds.contains(&"download");
            if !right {
                wrong.push((bearer.what, bearer.text.as_deref().unwrap_or_default()));
            }
        }
        for (kind, what, token) in [
            ("download", "a download token", &self.download),
            ("upload", "an upload token", &self.upload),
            ("server", "a server's token", &self.servers[0]),
        ] {
            if !gate.kinds.contains(&kind) {
                wrong.push((what, token));
            }
        }
        if ["put_replica", "put_server", "delete_server", "show_events", "reconcile"].contains(&gate.operation) {
            wrong.push(("another server's token", &self.servers[1]));
        }
        if gate.kinds.contains(&"upload") {
            wrong.push(("an upload token of another file", &self.upload));
        }
        let too_low: &[&str] = match gate.role {
            "admin" => &["reader", "publisher"],
            "publisher" => &["reader"],
            "" => &["reader", "publisher", "admin"],
            _ => &[],
        };
        wrong.extend(too_low.iter().map(|role| (*role, self.session[role].as_str())));
        wrong
    }

    /// Sends every wrong token to every route of a listener, for things that are there and for things that are not.
    async fn refuses(
        &self,
        url: &str,
        listener: &'static str,
        gates: &'static [Gate],
        answers: &mut Answers,
    ) -> anyhow::Result<usize> {
        let (mut asked, mut failed) = (0, Vec::new());
        for route in routes(&self.cluster, url, gates).await?.iter().filter(|route| !route.gate.kinds.is_empty()) {
            for (what, token) in self.wrong(route.gate, listener) {
                let token = Bearer { what, text: (!token.is_empty()).then(|| token.to_owned()) };
                let there = say(&self.cluster, url, route, &self.real, &token).await?;
                let not_there = say(&self.cluster, url, route, &self.made_up, &token).await?;
                let about = format!("{} {} with {what}", route.method, route.path);
                let question = Asked { listener, operation: route.gate.operation, token: what };
                answers.note(question, there.0, &there.2);
                let refused = [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN];
                if !refused.contains(&there.0) {
                    failed.push(format!("{about}: {} {}", there.0, String::from_utf8_lossy(&there.2)));
                }
                // Whose role is too low may know what there is: people see the catalogue.
                let person = self.session.values().any(|session| token.text.as_deref() == Some(session));
                if there != not_there && !person {
                    failed.push(format!("{about}: tells what is there: {there:?} is not {not_there:?}"));
                }
                let leaked = there.2.windows(8).any(|part| self.content.windows(8).any(|own| own == part));
                if leaked {
                    failed.push(format!("{about}: bytes of the file"));
                }
                if (there.0 == StatusCode::UNAUTHORIZED) != there.1.contains_key("www-authenticate") {
                    failed.push(format!("{about}: {} and a challenge do not go together", there.0));
                }
                asked += 2;
            }
        }
        ensure!(failed.is_empty(), "{}", failed.join("\n"));
        Ok(asked)
    }

    /// That the right tokens do open: else everything would be refused for another reason. What ends something is left out.
    async fn opens(
        &self,
        url: &str,
        listener: &'static str,
        gates: &'static [Gate],
        answers: &mut Answers,
    ) -> anyhow::Result<()> {
        let ends = ["delete_session", "delete_other_sessions", "delete_named_session", "delete_file", "delete_server"];
        for route in routes(&self.cluster, url, gates).await? {
            for kind in route.gate.kinds.iter().filter(|_| !ends.contains(&route.gate.operation)) {
                let token = match *kind {
                    "session" => &self.session[route.gate.role],
                    "download" => &self.download,
                    "server" => &self.servers[0],
                    // An upload token's file is another one; the join secret's own row enrols with it.
                    _ => continue,
                };
                // Only its publisher and an admin fix what a file is.
                let token = if route.gate.operation == "commit_file" { &self.session["admin"] } else { token };
                let said = say(&self.cluster, url, &route, &self.real, &bearer("the right one", token)).await?;
                let shut = [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN];
                let text = String::from_utf8_lossy(&said.2).into_owned();
                let right = if *kind == "session" { route.gate.role } else { *kind };
                let question = Asked { listener, operation: route.gate.operation, token: right };
                answers.note(question, said.0, &said.2);
                assert!(!shut.contains(&said.0), "{} {} with a {kind}: {} {text}", route.method, route.path, said.0);
            }
        }
        Ok(())
    }
}

#[tokio::test]
async fn no_token_opens_a_route_that_is_not_its_own_or_tells_what_there_is() -> anyhow::Result<()> {
    let fixture = fixture().await?;
    let server = format!("http://{}", fixture.cluster.servers[0].process.as_ref().context("a process")?.address());
    let late = fixture.bearers.iter().find(|bearer| bearer.what == "a download token that expired");
    let late = late.and_then(|bearer| bearer.text.clone()).context("a token")?;
    let content = format!("{server}/v1/files/{}/content", fixture.real.file);
    eventually(
        "the short token has expired and the revocation is known",
        STEP_TIMEOUT.min(Duration::from_secs(20)),
        async || {
            let answer = fixture.cluster.http.get(&content).bearer_auth(&late).send().await?;
            Ok((answer.status() == StatusCode::FORBIDDEN).then_some(()))
        },
    )
    .await?;
    let (info, mut answers) = (fixture.cluster.info_url(), Answers::default());
    let at_info = fixture.refuses(info, "info-server", INFO, &mut answers).await?;
    let at_server = fixture.refuses(&server, "file-server", FILE_SERVER, &mut answers).await?;
    println!("{at_info} requests at the info-server and {at_server} at a file server were refused");
    fixture.opens(&server, "file-server", FILE_SERVER, &mut answers).await?;
    fixture.opens(info, "info-server", INFO, &mut answers).await?;
    answers.compare()
}
