//! F43: the data of an earlier version, as that version left it, is opened by this one and goes on working.
//!
//! `earlier_version/*.sql` are the databases of an info-server and two file servers of the commit 0cb1dec, row by row: schema, rows and
//! the checksums of the migrations. Only times of expiry were moved to the year 2100. `facts.json` names what was done there, with the
//! tokens. All of it was made for this test.

use std::path::Path;

use anyhow::{Context as _, ensure};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use ddm_testkit::{
    cluster::{STEP_TIMEOUT, run_with_input},
    process::{Server, eventually, tool, write_private},
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use wire::Digest;

const FACTS: &str = include_str!("earlier_version/facts.json");
const INFO_SERVER: &str = include_str!("earlier_version/info-server.sql");
/// Schema of the file servers' databases, and the rows that both have.
const FILE_SERVER: &str = include_str!("earlier_version/file-server.sql");
/// Rows of each of them.
const FILE_SERVERS: [&str; 2] =
    [include_str!("earlier_version/file-server-0.sql"), include_str!("earlier_version/file-server-1.sql")];
const CHUNK_SIZE: usize = 1 << 20;
/// Size of a file of two chunks.
const FILE_SIZE: usize = 1_500_000;

/// Bytes of a file, which its seed tells from those of another one.
fn content(seed: usize, size: usize) -> Vec<u8> {
    (0..size).map(|n| u8::try_from(n * seed % 251).unwrap()).collect()
}

/// Bytes that a file server has of a file.
fn stored(name: &str) -> Vec<u8> {
    match name {
        "one" => content(7, FILE_SIZE),
        "two" => b"0123456789".to_vec(),
        "job" => content(13, 3 * CHUNK_SIZE),
        // The publisher was interrupted after the first of two chunks.
        _ => {
            let mut half = content(11, FILE_SIZE);
            half[CHUNK_SIZE..].fill(0);
            half
        }
    }
}

/// Makes a database again.
async fn make(path: &Path, sql: &str) -> anyhow::Result<()> {
    const MAKE: &str = "import sqlite3, sys\n\
        d = sqlite3.connect(sys.argv[1])\nd.executescript(sys.stdin.read())\nd.close()";
    let mut python = tool("/usr/bin/python3");
    python.args(["-c", MAKE]).arg(path);
    let output = run_with_input(python, sql).await.context("this row needs python3")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Servers of this version on that data.
struct Servers {
    facts: Value,
    info: Server,
    files: Vec<Server>,
    http: reqwest::Client,
    _folder: TempDir,
}

impl Servers {
    async fn start() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let facts: Value = serde_json::from_str(FACTS)?;
        let text = |path: &Path| path.display().to_string();
        let data = folder.path().join("info-server");
        std::fs::create_dir(&data)?;
        make(&data.join("catalogue.sqlite"), INFO_SERVER).await?;
        let args = ["--data", &text(&data), "--listen", "127.0.0.1:0"];
        let info = Server::start("ddm-info-server", &args, &folder.path().join("info-server.log")).await?;
        let url = format!("http://{}", info.address());
        let mut files = Vec::new();
        for (n, rows) in FILE_SERVERS.iter().enumerate() {
            let data = folder.path().join(format!("file-server-{n}"));
            std::fs::create_dir(&data)?;
            make(&data.join("file-server.db"), &format!("{FILE_SERVER}{rows}")).await?;
            write_private(&data.join("identity.json"), facts["identities"][n].to_string().as_bytes())?;
            for (blob, name) in facts["blobs"].as_object().context("blobs")? {
                let blob = data.join(blob);
                std::fs::create_dir_all(blob.parent().context("a folder")?)?;
                std::fs::write(blob, stored(name.as_str().unwrap_or_default()))?;
            }
            let args = ["--data", &text(&data), "--listen", "127.0.0.1:0", "--zone", "eu", "--info", &url];
            files.push(
                Server::start("ddm-file-server", &args, &folder.path().join(format!("file-server-{n}.log"))).await?,
            );
        }
        let http = reqwest::Client::builder().no_proxy().timeout(STEP_TIMEOUT).build()?;
        Ok(Self { facts, info, files, http, _folder: folder })
    }

    fn fact(&self, name: &str) -> &str {
        self.facts[name].as_str().unwrap_or_default()
    }

    fn token(&self, name: &str) -> &str {
        self.facts["tokens"][name].as_str().unwrap_or_default()
    }

    /// Sends a request to the info-server; its status and JSON.
    async fn ask(
        &self,
        method: Method,
        path: &str,
        token: &str,
        body: Option<Value>,
    ) -> anyhow::Result<(StatusCode, Value)> {
        let request = self.http.request(method, format!("http://{}{path}", self.info.address())).bearer_auth(token);
        let answer = body.into_iter().fold(request, |request, body| request.json(&body)).send().await?;
        let status = answer.status();
        Ok((status, serde_json::from_slice(&answer.bytes().await?).unwrap_or_default()))
    }

    async fn get(&self, path: &str) -> anyhow::Result<Value> {
        let (status, body) = self.ask(Method::GET, path, self.token("admin session"), None).await?;
        ensure!(status == StatusCode::OK, "{path}: {status} {body}");
        Ok(body)
    }

    /// Returns the answer of one file server to a token.
    async fn content(&self, server: &Server, file: &str, token: &str) -> anyhow::Result<(StatusCode, Vec<u8>)> {
        let url = format!("http://{}/v1/files/{file}/content", server.address());
        let answer = self.http.get(url).bearer_auth(token).send().await?;
        Ok((answer.status(), answer.bytes().await?.to_vec()))
    }
}

#[tokio::test]
async fn data_of_an_earlier_version_is_opened_and_goes_on_working() -> anyhow::Result<()> {
    let servers = Servers::start().await?;
    let log_in = async |email: &str| {
        let body = json!({ "email": email, "password": servers.fact("password") });
        Ok::<_, anyhow::Error>(servers.ask(Method::POST, "/v1/sessions", "", Some(body)).await?.0)
    };
    assert_eq!(log_in("publisher@example.org").await?, StatusCode::CREATED);
    assert_eq!(log_in("closed@example.org").await?, StatusCode::UNAUTHORIZED, "the account is shut");

    let listed = servers.get("/v1/files").await?;
    let mut names: Vec<&str> =
        listed["files"].as_array().context("files")?.iter().filter_map(|file| file["name"].as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["half.bin", "job.bin", "one.bin", "two.bin"], "{listed}");

    let one = servers.fact("one").to_owned();
    let details = eventually("both servers are back with the file", STEP_TIMEOUT, async || {
        let details = servers.get(&format!("/v1/files/{one}")).await?;
        Ok((details["locations"].as_array().map(Vec::len) == Some(2)).then_some(details))
    })
    .await?;
    let fresh = details["download"]["token"].as_str().context("a token")?;
    for server in &servers.files {
        for token in [servers.token("download of one.bin"), fresh] {
            let (status, bytes) = servers.content(server, &one, token).await?;
            assert!(status == StatusCode::OK && bytes == content(7, FILE_SIZE), "{status}");
        }
        let revoked = servers.content(server, &one, servers.token("revoked download of one.bin")).await?;
        assert_eq!(revoked.0, StatusCode::FORBIDDEN);
    }

    // The upload that was interrupted is brought to its end.
    let half = servers.fact("half").to_owned();
    let whole = content(11, FILE_SIZE);
    let (first, last) = whole.split_at(CHUNK_SIZE);
    let digest = BASE64_STANDARD.encode(Digest::of(last).as_bytes());
    for server in &servers.files {
        let url = format!("http://{}/v1/files/{half}/chunks/1", server.address());
        let put = servers.http.put(url).bearer_auth(servers.token("upload of half.bin"));
        let put = put.header("Content-Digest", format!("sha-256=:{digest}:")).body(last.to_vec());
        let answer = put.send().await?;
        assert!(answer.status().is_success(), "{} {}", answer.status(), answer.text().await?);
    }
    let commit = json!({ "sha256": Digest::of(&whole), "chunks": [Digest::of(first), Digest::of(last)] });
    let publisher = servers.token("publisher session");
    let (status, body) =
        servers.ask(Method::POST, &format!("/v1/files/{half}/commit"), publisher, Some(commit)).await?;
    assert_eq!((status, &body["state"]), (StatusCode::OK, &json!("available")), "{body}");

    let done = servers.get(&format!("/v1/jobs/{}", servers.fact("job"))).await?;
    assert_eq!((&done["state"], &done["fetched"], &done["keep"]), (&json!("done"), &json!(3), &json!(true)), "{done}");
    let later = format!("/v1/jobs/{}", servers.fact("later"));
    assert_eq!(servers.get(&later).await?["state"], "scheduled");
    let (status, _) = servers.ask(Method::DELETE, &later, publisher, None).await?;
    assert!(status.is_success(), "{status}");
    Ok(())
}
