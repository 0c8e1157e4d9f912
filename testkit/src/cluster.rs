//! A whole system of real processes on free ports, in a folder that goes with it. What it promised is written down
//! ([`crate::history`]) and judged when it is dropped.

mod arguments;
mod client;
mod commands;
mod file_servers;
mod info_server;

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

pub use self::commands::{events, finish, run_with_input};
use self::{arguments::strings, commands::COMMAND_TIMEOUT};
use crate::{
    history::{History, Promise},
    netns::{Host, Net},
    port::free_port,
    process::{Server, Surroundings, command},
    proxy::Proxy,
};

/// Time limit for registration and the like on a busy machine.
pub const STEP_TIMEOUT: Duration = Duration::from_secs(30);
pub use crate::PASSWORD;
/// The account that every cluster has.
pub const ADMIN: &str = "admin@example.org";

/// Parts of a cluster.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// One file server per entry, by its zone.
    pub zones: Vec<&'static str>,
    /// The broker's URL; the embedded default without one.
    pub amqp: Option<String>,
    /// Address at which the file servers reach the broker, if that differs (behind a proxy).
    pub file_server_amqp: Option<String>,
    /// Variables in the environment of every file server.
    pub file_server_env: Vec<(String, String)>,
    /// Variables in the environment of the info-server.
    pub info_env: Vec<(String, String)>,
    /// Further arguments of the info-server.
    pub info_args: Vec<String>,
    /// Further arguments of every file server.
    pub file_server_args: Vec<String>,
    /// Set if clients reach each file server through a [`Proxy`].
    pub proxied: bool,
    /// Set if the file servers reach the info-server through a [`Proxy`].
    pub info_proxied: bool,
    /// Network in which everything runs, each process on its own host; without one, on this machine. The info-server and the
    /// clients stand in the net's first zone. Neither proxies nor a broker of this machine go with it.
    pub net: Option<Arc<Net>>,
    /// Folder for the data; by default the system's folder for temporary files.
    pub folder: Option<PathBuf>,
}

impl Plan {
    /// File servers in these zones, on the embedded default.
    pub fn zones(zones: &[&'static str]) -> Self {
        Self { zones: zones.to_vec(), ..Self::default() }
    }
}

/// A file server of a cluster.
#[derive(Debug)]
pub struct FileServer {
    /// Its process, unless a test took it away.
    pub process: Option<Server>,
    /// Proxy in front of it, if the plan asked for one.
    pub proxy: Option<Proxy>,
    /// The id it made for itself.
    pub id: String,
    /// Host it runs on, if the plan has a net.
    pub host: Option<Host>,
    args: Vec<String>,
    env: Vec<(String, String)>,
    log: PathBuf,
}

/// A running system.
#[derive(Debug)]
pub struct Cluster {
    /// The info-server's process, unless a test took it away.
    pub info: Option<Server>,
    /// The file servers, in the plan's order.
    pub servers: Vec<FileServer>,
    /// Client for requests of the test's own.
    pub http: reqwest::Client,
    /// The admin's session token.
    pub token: String,
    /// Proxy between the info-server and the file servers, if the plan asked for one.
    pub info_proxy: Option<Proxy>,
    /// Host that clients run on, if the plan has a net; may be changed.
    pub client_host: Option<Host>,
    info_url: String,
    info_host: Option<Host>,
    info_args: Vec<String>,
    info_env: Vec<(String, String)>,
    history: History,
    // Dropped last: the processes work in it.
    folder: TempDir,
}

impl Cluster {
    /// Starts everything and waits until all file servers are listed.
    ///
    /// # Errors
    /// Whatever did not start.
    pub async fn start(plan: &Plan) -> anyhow::Result<Self> {
        let builder = tempfile::Builder::new();
        let folder = match &plan.folder {
            Some(folder) => builder.tempdir_in(folder)?,
            None => builder.tempdir()?,
        };
        ensure!(
            plan.net.is_none() || !(plan.proxied || plan.info_proxied || plan.amqp.is_some()),
            "hosts of their own do not reach what listens on this machine's loopback: no proxies, no broker"
        );
        let (info_host, client_host) = match &plan.net {
            Some(net) => {
                let zone = net.zones().next().context("a net without zones")?;
                (Some(net.host(zone)?), Some(net.host(zone)?))
            }
            None => (None, None),
        };
        let data = folder.path().join("info-server");
        let mut info_args = strings(&["--data", &data.display().to_string(), "--listen", &listen_address(plan)?]);
        add_broker(&mut info_args, plan);
        info_args.extend(plan.info_args.clone());
        let surroundings = Surroundings { host: info_host.as_ref(), env: &plan.info_env, ..Surroundings::default() };
        let log = folder.path().join("info-server.log");
        let info = Server::start_in(surroundings, "ddm-info-server", &info_args, &log).await?;
        let info_url = format!("http://{}", info.address());
        let info_proxy = if plan.info_proxied { Some(Proxy::start().await?) } else { None };
        if let Some(proxy) = &info_proxy {
            proxy.forward_to(info.address());
        }
        let http = reqwest::Client::builder().no_proxy().timeout(COMMAND_TIMEOUT).build()?;
        let mut cluster = Self {
            info: Some(info),
            servers: Vec::new(),
            http,
            token: String::new(),
            info_proxy,
            client_host,
            info_url,
            info_host,
            info_args,
            info_env: plan.info_env.clone(),
            history: History::default(),
            folder,
        };
        cluster.user(&["add", ADMIN, "--role", "admin"], Some(PASSWORD)).await?;
        cluster.token = cluster.log_in(ADMIN).await?;
        let secret = std::fs::read_to_string(cluster.path("info-server/join-secret")).unwrap_or_default();
        cluster.history.secret(secret.trim());
        for zone in &plan.zones {
            cluster.add_server(zone, plan).await?;
        }
        Ok(cluster)
    }

    /// Runs a command of a server's program on its data folder (`info-server`, `file-server-0`); its standard output.
    ///
    /// # Errors
    /// When it fails; the message holds what it said.
    pub async fn operate(&self, program: &str, folder: &str, args: &[&str]) -> anyhow::Result<String> {
        let mut operation = command(program)?;
        operation.arg("--data").arg(self.path(folder)).args(args);
        let output = run_with_input(operation, "").await?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    }

    /// The proxy before a file server.
    ///
    /// # Errors
    /// When the plan asked for none.
    pub fn proxy(&self, n: usize) -> anyhow::Result<&Proxy> {
        self.servers.get(n).and_then(|server| server.proxy.as_ref()).context("no proxy: set `proxied` in the plan")
    }

    /// Does not judge a promise at the end, for a row that breaks it on purpose and says why.
    pub fn excuse(&self, promise: Promise, reason: &'static str) {
        self.history.excuse(promise, reason);
    }

    /// The info-server's address.
    pub fn info_url(&self) -> &str {
        &self.info_url
    }

    /// A path in the cluster's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs `ddm-info-server user …` on the cluster's database.
    ///
    /// # Errors
    /// When it fails; the message holds what it said.
    pub async fn user(&self, args: &[&str], password: Option<&str>) -> anyhow::Result<String> {
        let mut user = command("ddm-info-server")?;
        user.arg("--data").arg(self.path("info-server")).arg("user").args(args);
        let output = run_with_input(user, password.unwrap_or_default()).await?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Logs in over HTTP; the session token.
    ///
    /// # Errors
    /// When the log-in is refused.
    pub async fn log_in(&self, email: &str) -> anyhow::Result<String> {
        let body = json!({ "email": email, "password": PASSWORD });
        let answer = self.http.post(format!("{}/v1/sessions", self.info_url)).json(&body).send().await?;
        ensure!(answer.status() == StatusCode::CREATED, "log-in: {}", answer.status());
        let session: Value = answer.json().await?;
        let token = session["token"].as_str().context("a token")?;
        self.history.secret(token);
        Ok(token.to_owned())
    }

    /// A request to the info-server as the admin.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.history.requested(&method, path);
        self.http.request(method, format!("{}{path}", self.info_url)).bearer_auth(&self.token)
    }

    /// The JSON at a path of the info-server, as the admin.
    ///
    /// # Errors
    /// Every status but a success.
    pub async fn get(&self, path: &str) -> anyhow::Result<Value> {
        Ok(self.request(Method::GET, path).send().await?.error_for_status()?.json().await?)
    }
}

impl Drop for Cluster {
    #[expect(clippy::panic, reason = "a broken promise fails the test that broke it")]
    fn drop(&mut self) {
        let broken = self.history.judge(&crate::history::Remains {
            folder: self.folder.path(),
            info: self.info.as_ref(),
            servers: self.servers.iter().map(|server| server.process.as_ref()).collect(),
            session: &self.token,
        });
        // Ends all that was started, and sees that nothing else was.
        self.info = None;
        for server in &mut self.servers {
            server.process = None;
        }
        let mut broken = broken;
        broken.extend(crate::history::leftovers(self.folder.path()));
        if broken.is_empty() {
            return;
        }
        let text = format!("broken promises:\n- {}", broken.join("\n- "));
        if std::thread::panicking() {
            eprintln!("{text}");
        } else {
            panic!("{text}");
        }
    }
}

fn add_broker(args: &mut Vec<String>, plan: &Plan) {
    args.extend(plan.amqp.iter().flat_map(|url| ["--amqp".to_owned(), url.clone()]));
}

/// Returns an address to listen on, now and when the server is started again: on all addresses where the host's own is not known to it.
fn listen_address(plan: &Plan) -> anyhow::Result<String> {
    let ip = if plan.net.is_some() { "0.0.0.0" } else { "127.0.0.1" };
    Ok(format!("{ip}:{}", free_port()?))
}
