use anyhow::{Context as _, ensure};
use ddm_testkit::{
    cluster::{Cluster, PASSWORD, Plan, STEP_TIMEOUT},
    history::Promise,
    process::{Server, eventually},
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use wire::Digest;

use super::{CUTS, copy, ended, mark};

/// Something that an answer promised.
#[derive(Debug, Clone)]
enum Fact {
    /// An account's e-mail, role and whether it is shut.
    Account(String, &'static str, bool),
    /// A session's token, and whether it is good.
    Session(String, bool),
    /// A file's id, and its state, if it is there.
    File(String, Option<&'static str>),
    /// The hash of a download token, and whether it is good.
    Token(Digest, bool),
    /// A job's id and state.
    Job(String, &'static str),
    /// A server's id, and whether it is being emptied.
    Draining(String, bool),
    /// A file's id, and a zone where it is to stand.
    Preheated(String, &'static str),
}

/// Promise, from the answer to one request on, until another request ends it.
#[derive(Debug)]
struct Promised {
    fact: Fact,
    since: usize,
    until: Option<usize>,
}

/// Requests of an admin, numbered.
struct Requests<'a> {
    cluster: &'a Cluster,
    /// Session of the next request, if it is not the admin's.
    session: Option<String>,
    asked: usize,
    promised: Vec<Promised>,
}

impl Requests<'_> {
    async fn ask(&mut self, method: Method, path: &str, body: Value, wanted: u16) -> anyhow::Result<Value> {
        let request = match self.session.take() {
            None => self.cluster.request(method, path),
            Some(token) => {
                self.cluster.http.request(method, format!("{}{path}", self.cluster.info_url())).bearer_auth(token)
            }
        };
        let request = request.header("x-mark", mark(self.asked));
        let request = if body.is_null() { request } else { request.json(&body) };
        let answer = request.send().await?;
        let status = answer.status();
        let text = answer.text().await?;
        ensure!(status == wanted, "{path}: {status} {text}");
        self.asked += 1;
        Ok(serde_json::from_str(&text).unwrap_or_default())
    }

    /// Records a promise of the last request; it ends earlier promises about the same object.
    fn promise(&mut self, fact: Fact) {
        let since = self.asked - 1;
        let same = |other: &Fact| match (other, &fact) {
            (Fact::Account(a, ..), Fact::Account(b, ..))
            | (Fact::Session(a, _), Fact::Session(b, _))
            | (Fact::File(a, _), Fact::File(b, _))
            | (Fact::Job(a, _), Fact::Job(b, _))
            | (Fact::Draining(a, _), Fact::Draining(b, _)) => a == b,
            (Fact::Token(a, _), Fact::Token(b, _)) => a == b,
            _ => false,
        };
        for promised in self.promised.iter_mut().filter(|promised| promised.until.is_none() && same(&promised.fact)) {
            promised.until = Some(since);
        }
        self.promised.push(Promised { fact, since, until: None });
    }

    /// A file of one chunk, published by hand.
    async fn publish(&mut self, content: &[u8]) -> anyhow::Result<String> {
        let new = json!({ "name": "x", "size": content.len(), "quorum": 2 });
        let made = self.ask(Method::POST, "/v1/files", new, 201).await?;
        let id = text(&made["id"])?;
        self.promise(Fact::File(id.clone(), Some("uploading")));
        for target in made["targets"].as_array().context("targets")? {
            let put = self.cluster.http.put(format!("{}/0", text(&target["url"])?));
            let put = put.bearer_auth(text(&made["upload"]["token"])?);
            let put = put.header("Content-Digest", Digest::of(content).to_field()).body(content.to_vec());
            put.send().await?.error_for_status()?;
        }
        let commit = json!({ "sha256": Digest::of(content), "chunks": [Digest::of(content)] });
        self.ask(Method::POST, &format!("/v1/files/{id}/commit"), commit, 200).await?;
        self.promise(Fact::File(id.clone(), Some("available")));
        Ok(id)
    }

    /// Sends the requests whose answers say that something is done or begun.
    async fn all(&mut self) -> anyhow::Result<()> {
        let (nothing, email) = (Value::Null, "r@example.org");
        let account = |role, shut| Fact::Account(email.to_owned(), role, shut);
        let new = json!({ "email": email, "password": PASSWORD, "role": "reader" });
        self.ask(Method::POST, "/v1/users", new, 201).await?;
        self.promise(account("reader", false));
        let log_in = json!({ "email": email, "password": PASSWORD });
        let session = text(&self.ask(Method::POST, "/v1/sessions", log_in, 201).await?["token"])?;
        self.promise(Fact::Session(session.clone(), true));
        let (first, second) = (self.publish(b"first").await?, self.publish(b"second").await?);
        for revoked in [true, false] {
            let made = self.ask(Method::POST, &format!("/v1/files/{first}/tokens"), nothing.clone(), 201).await?;
            let hash = Digest::of(text(&made["token"])?.as_bytes());
            self.promise(Fact::Token(hash, true));
            if revoked {
                let path = format!("/v1/tokens/{}", text(&made["token_id"])?);
                self.ask(Method::DELETE, &path, nothing.clone(), 204).await?;
                self.promise(Fact::Token(hash, false));
            }
        }
        self.ask(Method::PATCH, &format!("/v1/users/{email}"), json!({ "role": "publisher" }), 204).await?;
        self.promise(account("publisher", false));
        let start_at = (jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24)).to_string();
        let job = json!({ "url": "http://127.0.0.1:9/x", "start_at": start_at });
        let job = text(&self.ask(Method::POST, "/v1/jobs", job, 201).await?["id"])?;
        self.promise(Fact::Job(job.clone(), "scheduled"));
        let server = self.cluster.servers[2].id.clone();
        self.ask(Method::POST, &format!("/v1/servers/{server}/drain"), nothing.clone(), 202).await?;
        self.promise(Fact::Draining(server.clone(), true));
        self.ask(Method::DELETE, &format!("/v1/servers/{server}/drain"), nothing.clone(), 204).await?;
        self.promise(Fact::Draining(server, false));
        self.ask(Method::POST, &format!("/v1/files/{first}/preheat"), json!({ "zone": "us" }), 202).await?;
        self.promise(Fact::Preheated(first, "us"));
        self.ask(Method::DELETE, &format!("/v1/jobs/{job}"), nothing.clone(), 204).await?;
        self.promise(Fact::Job(job, "stopped"));
        self.session = Some(session.clone());
        self.ask(Method::DELETE, "/v1/sessions/current", nothing.clone(), 204).await?;
        self.promise(Fact::Session(session, false));
        self.ask(Method::DELETE, &format!("/v1/files/{second}"), nothing, 202).await?;
        self.promise(Fact::File(second, None));
        self.ask(Method::PATCH, &format!("/v1/users/{email}"), json!({ "disabled": true }), 204).await?;
        self.promise(account("publisher", true));
        Ok(())
    }
}

fn text(value: &Value) -> anyhow::Result<String> {
    Ok(value.as_str().with_context(|| value.to_string())?.to_owned())
}

/// Asks an info-server after a power cut.
struct Witness<'a> {
    cluster: &'a Cluster,
    server: &'a Server,
    /// The token of a file server, which may look at grants.
    file_server: String,
}

impl Witness<'_> {
    async fn get(&self, path: &str, token: &str) -> anyhow::Result<(StatusCode, Value)> {
        let answer = self.cluster.http.get(format!("http://{}{path}", self.server.address())).bearer_auth(token);
        let answer = answer.send().await?;
        Ok((answer.status(), serde_json::from_slice(&answer.bytes().await?).unwrap_or_default()))
    }

    /// Returns a description of the breach of a fact, if it does not hold.
    async fn doubts(&self, fact: &Fact) -> anyhow::Result<Option<String>> {
        let admin = &self.cluster.token;
        let (right, found) = match fact {
            Fact::Account(email, role, shut) => {
                let (_, users) = self.get("/v1/users", admin).await?;
                let found = users["users"].as_array().and_then(|all| all.iter().find(|user| user["email"] == *email));
                let found = found.cloned().unwrap_or_default();
                (found["role"] == *role && found["disabled"].as_bool().unwrap_or_default() == *shut, found)
            }
            Fact::Session(token, good) => {
                let (status, _) = self.get("/v1/files", token).await?;
                (status == if *good { 200 } else { 401 }, json!(status.as_u16()))
            }
            Fact::File(id, state) => {
                let (status, details) = self.get(&format!("/v1/files/{id}?grant=false"), admin).await?;
                let right = state.map_or(status == 404, |state| details["state"] == state);
                (right, json!([status.as_u16(), details["state"]]))
            }
            Fact::Token(hash, good) => {
                let url = format!("http://{}/v1/tokens/introspect", self.server.address());
                let asked = self.cluster.http.post(url).bearer_auth(&self.file_server);
                let status = asked.json(&json!({ "token_hash": hash })).send().await?.status();
                (status == if *good { 200 } else { 404 }, json!(status.as_u16()))
            }
            Fact::Job(id, state) => {
                let (status, job) = self.get(&format!("/v1/jobs/{id}"), admin).await?;
                (job["state"] == *state, json!([status.as_u16(), job["state"]]))
            }
            Fact::Draining(id, on) => {
                let (_, drain) = self.get(&format!("/v1/servers/{id}/drain"), admin).await?;
                (drain["draining"] == *on, drain)
            }
            Fact::Preheated(id, zone) => {
                let (_, status) = self.get(&format!("/v1/files/{id}/replicas"), admin).await?;
                (status["zones"][zone]["wanted"].as_u64() > Some(0), status["zones"].clone())
            }
        };
        Ok((!right).then(|| format!("{fact:?}: {found}")))
    }
}

#[tokio::test]
async fn every_answer_of_an_info_server_is_synced_first_and_outlives_a_power_cut() -> anyhow::Result<()> {
    let args = vec!["--default-replicas".to_owned(), "2".to_owned()];
    let mut cluster = Cluster::start(&Plan { info_args: args, ..Plan::zones(&["eu", "eu", "us"]) }).await?;
    cluster.excuse(Promise::NothingLost, "the info-server is killed before the end");
    assert!(cluster.info.take().context("an info-server")?.stop().await?.success());
    let folder = cluster.path("info-server");
    let (trace, before) = (cluster.path("trace"), copy(&folder, cluster.path("before")).await?);
    cluster.restart_info_recorded(&trace).await?;
    eventually("all file servers are back", STEP_TIMEOUT, async || {
        Ok((cluster.server_ids().await?.len() == 3).then_some(()))
    })
    .await?;
    let mut requests = Requests { cluster: &cluster, session: None, asked: 0, promised: Vec::new() };
    requests.all().await?;
    let (asked, promised) = (requests.asked, requests.promised);
    let info = cluster.info.take().context("an info-server")?;
    let recording = ended(info, &trace, &folder, &before).await?;

    let moment = |n: usize| recording.answered(&mark(n)).with_context(|| format!("no answer to request {n}"));
    for n in 0..asked {
        let (from, (answered, status)) = (recording.received(&mark(n)).context("a request")?, moment(n)?);
        let synced = recording.synced(from..answered);
        let database = synced.iter().any(|path| path.ends_with("catalogue.sqlite-wal"));
        assert!(database, "request {n} was answered with {status} after these syncs: {synced:?}");
    }
    let first = recording.received(&mark(0)).context("a first request")?;
    let identity: Value = serde_json::from_str(&std::fs::read_to_string(cluster.path("file-server-0/identity.json"))?)?;
    let seed = ddm_testkit::seed();
    for (n, cut) in recording.cuts(first..recording.len() + 1, 3 * CUTS / 2, seed).into_iter().enumerate() {
        let data = cluster.path(&format!("cut-{n}"));
        std::fs::create_dir(&data)?;
        recording.rebuild(cut, seed.wrapping_add(n as u64), &data)?;
        let server = cluster.start_info_on(&data, &cluster.path(&format!("cut-{n}.log"))).await?;
        let witness = Witness { cluster: &cluster, server: &server, file_server: text(&identity["secret"])? };
        for promised in &promised {
            let stands = moment(promised.since)?.0 < cut;
            let ended = promised.until.and_then(|until| recording.received(&mark(until))).is_some_and(|at| at < cut);
            if stands && !ended {
                let doubts = witness.doubts(&promised.fact).await?;
                assert!(doubts.is_none(), "cut {n}, after {cut} of {} steps: {doubts:?}", recording.len());
            }
        }
        server.kill().await?;
        std::fs::remove_dir_all(&data)?;
    }
    Ok(())
}
