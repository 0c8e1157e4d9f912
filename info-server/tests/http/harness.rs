//! An info-server without sockets: its router, with accounts and file servers to call it as.

use std::time::Duration;

use axum::{
    Router,
    body::Body,
    http::{HeaderMap, Method, Request, StatusCode, header, request::Builder},
};
use clap::Parser as _;
use ddm_info_server::{
    accounts::{account::NewSession, store},
    app::App,
    cli::CommandLine,
    db::Database,
    fleet::{self, server::EnrolledServer},
};
use http_body_util::BodyExt as _;
use http_front::acceptor::PeerAddress;
use jiff::Timestamp;
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::ServiceExt as _;
use wire::{
    Digest, ServerId,
    account::Role,
    id::InstanceId,
    token::{Token, TokenKind},
};

/// The password of every account.
pub(crate) const PASSWORD: &str = "a long password";
/// The secret that file servers enrol with.
pub(crate) const JOIN_SECRET: &str = "a secret of the operator";

/// A party that calls a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Caller {
    Stranger,
    Reader,
    OtherReader,
    Publisher,
    OtherPublisher,
    Admin,
    /// `fs-1` in the zone eu.
    FileServer,
    /// `fs-2` in the zone eu.
    OtherFileServer,
}

const USERS: [(Caller, &str, Role); 5] = [
    (Caller::Admin, "admin@x", Role::Admin),
    (Caller::Publisher, "publisher@x", Role::Publisher),
    (Caller::OtherPublisher, "other-publisher@x", Role::Publisher),
    (Caller::Reader, "reader@x", Role::Reader),
    (Caller::OtherReader, "other-reader@x", Role::Reader),
];
const SERVERS: [(Caller, &str); 2] = [(Caller::FileServer, "fs-1"), (Caller::OtherFileServer, "fs-2")];

/// A running info-server.
pub(crate) struct InfoServer {
    router: Router,
    tokens: Vec<(Caller, String)>,
    pub(crate) folder: TempDir,
}

/// The answer to a request.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl InfoServer {
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts a server with further settings.
    pub(crate) async fn start_with(settings: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().to_str().unwrap();
        lifecycle::private_file::write(&folder.path().join("join-secret"), JOIN_SECRET.as_bytes()).unwrap();
        let line = ["ddm-info-server", "--listen", "127.0.0.1:0", "--data", data];
        let config = CommandLine::try_parse_from(line.into_iter().chain(settings.iter().copied())).unwrap().config;
        let db = Database::open(&config.database()).await.unwrap();
        let tokens = fill(&db).await;
        db.close().await;
        let app = App::build(config).await.unwrap();
        let (router, commits) = app.into_router().await.unwrap();
        tokio::spawn(commits);
        Self { router, tokens, folder }
    }

    pub(crate) fn token(&self, caller: Caller) -> Option<&str> {
        self.tokens.iter().find(|(known, _)| *known == caller).map(|(_, token)| token.as_str())
    }

    pub(crate) async fn get(&self, caller: Caller, path: &str) -> Answer {
        self.call(caller, Method::GET, path, None).await
    }

    pub(crate) async fn delete(&self, caller: Caller, path: &str) -> Answer {
        self.call(caller, Method::DELETE, path, None).await
    }

    pub(crate) async fn post(&self, caller: Caller, path: &str, body: Value) -> Answer {
        self.call(caller, Method::POST, path, Some(body)).await
    }

    pub(crate) async fn put(&self, caller: Caller, path: &str, body: Value) -> Answer {
        self.call(caller, Method::PUT, path, Some(body)).await
    }

    pub(crate) async fn patch(&self, caller: Caller, path: &str, body: Value) -> Answer {
        self.call(caller, Method::PATCH, path, Some(body)).await
    }

    pub(crate) async fn call(&self, caller: Caller, method: Method, path: &str, body: Option<Value>) -> Answer {
        self.call_with(self.token(caller), method, path, body).await
    }

    /// Calls a route with whatever bearer token.
    pub(crate) async fn call_with(
        &self,
        token: Option<&str>,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Answer {
        let request = Request::builder().method(method).uri(path);
        self.send(request, token, body).await
    }

    /// Calls a route as a stranger whose connection comes from `peer`, with further headers.
    pub(crate) async fn post_from(&self, peer: &str, headers: &[(&str, &str)], path: &str, body: Value) -> Answer {
        let peer = PeerAddress(Some(peer.parse().unwrap()));
        let request = Request::builder().method(Method::POST).uri(path).extension(peer);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        self.send(request, None, Some(body)).await
    }

    /// Sends a request with whatever further headers.
    pub(crate) async fn send(&self, mut request: Builder, token: Option<&str>, body: Option<Value>) -> Answer {
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let body = match body {
            None => Body::empty(),
            Some(value) => {
                request = request.header(header::CONTENT_TYPE, "application/json");
                Body::from(value.to_string())
            }
        };
        let (parts, body) = self.router.clone().oneshot(request.body(body).unwrap()).await.unwrap().into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Answer { status: parts.status, headers: parts.headers, text: String::from_utf8(bytes.to_vec()).unwrap() }
    }

    /// Publishes a file of three chunks that `fs-1` and `fs-2` hold; returns its id.
    pub(crate) async fn published(&self, name: &str) -> String {
        let id = self.announced(name).await;
        for server in [Caller::FileServer, Caller::OtherFileServer] {
            self.report(server, &id).await.expect(StatusCode::NO_CONTENT, "");
        }
        self.post(Caller::Publisher, &format!("/v1/files/{id}/commit"), commit()).await.expect(StatusCode::OK, "");
        id
    }

    /// Announces a file of three chunks; returns its id.
    pub(crate) async fn announced(&self, name: &str) -> String {
        let new = self.post(Caller::Publisher, "/v1/files", json!({ "name": name, "size": SIZE })).await;
        new.expect(StatusCode::CREATED, "")["id"].as_str().unwrap().to_owned()
    }

    /// Reports a complete replica.
    pub(crate) async fn report(&self, server: Caller, file: &str) -> Answer {
        let id = SERVERS.iter().find(|(known, _)| *known == server).unwrap().1;
        let report = json!({ "counter": 1, "runs": [[0, 3]], "root": Digest::root_of(&digests()) });
        self.put(server, &format!("/v1/files/{file}/replicas/{id}"), report).await
    }
}

impl Answer {
    /// Checks status and kind of problem (none for a success); returns the body.
    #[track_caller]
    pub(crate) fn expect(&self, status: StatusCode, problem: &str) -> Value {
        let body = serde_json::from_str(&self.text).unwrap_or(Value::Null);
        assert_eq!((self.status, self.problem(&body)), (status, problem), "{}", self.text);
        body
    }

    fn problem<'a>(&self, body: &'a Value) -> &'a str {
        body["type"].as_str().and_then(|kind| kind.strip_prefix("urn:ddm:problem:")).unwrap_or_default()
    }
}

/// Bytes in the files of these tests: two chunks of 1 MiB and one byte.
pub(crate) const SIZE: u64 = (2 << 20) + 1;

/// The digests of the chunks of these files.
pub(crate) fn digests() -> [Digest; 3] {
    [b"0", b"1", b"2"].map(|chunk| Digest::of(chunk))
}

/// The commit of these files.
pub(crate) fn commit() -> Value {
    json!({ "sha256": Digest::of(b"012"), "chunks": digests() })
}

async fn fill(db: &Database) -> Vec<(Caller, String)> {
    let (now, mut tokens) = (Timestamp::now(), Vec::new());
    let hash = ddm_info_server::accounts::passwords::hash(&PASSWORD.to_owned().into()).unwrap();
    let mut write = db.write().await.unwrap();
    for ((caller, email, role), user_id) in USERS.into_iter().zip(1..) {
        assert!(store::add_user(&mut write, email, &hash, role, now).await.unwrap());
        let token = Token::generate(TokenKind::Session);
        let expires_at = now + Duration::from_secs(3600);
        let session = NewSession { token_hash: token.hash(), user_id, expires_at, address: None, zone: None };
        store::add_session(&mut write, &session, now).await.unwrap();
        tokens.push((caller, token.expose().to_owned()));
    }
    for (caller, id) in SERVERS {
        let token = Token::generate(TokenKind::Server);
        let id: ServerId = id.parse().unwrap();
        let server = EnrolledServer {
            id,
            zone: "eu".parse().unwrap(),
            url: "http://127.0.0.1:9".parse().unwrap(),
            secret_sha256: token.hash(),
            instance: InstanceId::new(),
            present: true,
            reachable: true,
            free_bytes: 1 << 40,
            last_seen: now,
            weight: 1,
            draining: false,
        };
        fleet::store::save(&mut write, &server).await.unwrap();
        tokens.push((caller, token.expose().to_owned()));
    }
    write.commit().await.unwrap();
    tokens
}
