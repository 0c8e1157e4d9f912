//! F53: every kind of token against every route of both listeners. The routes come from the servers' own descriptions: one
//! that has no entry in `gates` fails the row, and so does an answer that is not the one in `matrix/answers.txt`.

mod answers;
mod fixture;
mod gates;

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, ensure};
use ddm_testkit::{
    cluster::{Cluster, PASSWORD, STEP_TIMEOUT},
    process::eventually,
};
use reqwest::{Method, StatusCode, header};
use serde_json::{Value, json};

use self::{
    answers::{Answers, Asked},
    fixture::{Bearer, Fixture, bearer, fixture},
    gates::{FILE_SERVER, Gate, INFO},
};

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

/// A body that the route would take, so that nothing but the token is wrong.
fn body(route: &Route) -> Option<Value> {
    Some(match route.gate.operation {
        "create_file" => json!({ "name": "y.bin", "size": 1 }),
        "adopt_file" => {
            json!({ "name": "y.bin", "size": 0, "chunk_size": 1 << 20, "sha256": "0".repeat(64), "chunks": [] })
        }
        "commit_file" => json!({ "sha256": "0".repeat(64), "chunks": [] }),
        // No address that a client is sent to.
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
type Answer = (StatusCode, BTreeMap<String, String>, Vec<u8>);

async fn send(cluster: &Cluster, url: &str, route: &Route, names: &Names, token: &Bearer) -> anyhow::Result<Answer> {
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
    let is_kept = |name: &header::HeaderName| *name != header::DATE && name.as_str() != "traceparent";
    let head = answer.headers().iter().filter(|(name, _)| is_kept(name));
    let head = head.map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()));
    let head = head.collect();
    Ok((status, head, answer.bytes().await?.to_vec()))
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
                let there = send(&self.cluster, url, route, &self.real, &token).await?;
                let not_there = send(&self.cluster, url, route, &self.made_up, &token).await?;
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

    /// Checks that the right tokens do open: else everything would be refused for another reason. Operations that end something
    /// are left out.
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
                let said = send(&self.cluster, url, &route, &self.real, &bearer("the right one", token)).await?;
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
