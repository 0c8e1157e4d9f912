//! A whole system of real processes on free ports, in a folder that goes with it. What it promised is written down
//! ([`crate::history`]) and judged when it is dropped.

use std::{
    path::{Path, PathBuf},
    process::{Output, Stdio},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::AsyncWriteExt as _,
    process::{Child, Command},
    time::timeout,
};

use crate::{
    history::{History, Promise},
    netns::{Host, Net},
    process::{Failing, Server, Surroundings, command, eventually},
    proxy::Proxy,
};

/// How long registration and the like may take on a machine that is busy.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// How long one command may take: some move 4 GiB to a slow disk.
const COMMAND: Duration = Duration::from_secs(240);
/// The password of every account that a test makes.
pub const PASSWORD: &str = "correct horse battery";
/// The account that every cluster has.
pub const ADMIN: &str = "admin@example.org";

/// What a cluster is made of.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// One file server per entry, by its zone.
    pub zones: Vec<&'static str>,
    /// The broker's URL; the embedded default without one.
    pub amqp: Option<String>,
    /// Where the file servers reach the broker, if that is elsewhere (behind a proxy).
    pub file_server_amqp: Option<String>,
    /// Variables in the environment of every file server.
    pub file_server_env: Vec<(String, String)>,
    /// Further arguments of the info-server.
    pub info_args: Vec<String>,
    /// Further arguments of every file server.
    pub file_server_args: Vec<String>,
    /// Whether clients reach the file servers through a [`Proxy`] each.
    pub proxied: bool,
    /// Whether the file servers reach the info-server through a [`Proxy`].
    pub info_proxied: bool,
    /// Where everything runs, each process on a host of its own; on this machine without one. The info-server and the
    /// clients stand in the net's first zone. Neither proxies nor a broker of this machine go with it.
    pub net: Option<Arc<Net>>,
    /// Where the data goes; the system's folder for temporary files by default.
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
    /// Between it and everybody else, if the plan asked for one.
    pub proxy: Option<Proxy>,
    /// The id it made for itself.
    pub id: String,
    /// Where it runs, if the plan has a net.
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
    /// For requests of the test's own.
    pub http: reqwest::Client,
    /// The admin's session token.
    pub token: String,
    /// Between the info-server and the file servers, if the plan asked for one.
    pub info_proxy: Option<Proxy>,
    /// Where clients run, if the plan has a net; may be changed.
    pub client_host: Option<Host>,
    info_url: String,
    info_host: Option<Host>,
    info_args: Vec<String>,
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
        let mut info_args = strings(&["--data", &data.display().to_string(), "--listen", any_port(plan)]);
        add_broker(&mut info_args, plan);
        info_args.extend(plan.info_args.clone());
        let surroundings = Surroundings { host: info_host.as_ref(), ..Surroundings::default() };
        let log = folder.path().join("info-server.log");
        let info = Server::start_in(surroundings, "ddm-info-server", &info_args, &log).await?;
        keep_port(&mut info_args, &info);
        let info_url = format!("http://{}", info.address());
        let info_proxy = if plan.info_proxied { Some(Proxy::start().await?) } else { None };
        if let Some(proxy) = &info_proxy {
            proxy.forward_to(info.address());
        }
        let http = reqwest::Client::builder().no_proxy().timeout(COMMAND).build()?;
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

    /// Starts one more file server and waits until it is listed.
    ///
    /// # Errors
    /// When it does not start or is not listed in time.
    pub async fn add_server(&mut self, zone: &str, plan: &Plan) -> anyhow::Result<()> {
        let n = self.servers.len();
        let (data, log) = (self.path(&format!("file-server-{n}")), self.path(&format!("file-server-{n}.log")));
        let secret = self.path("info-server/join-secret");
        let host = plan.net.as_ref().map(|net| net.host(zone)).transpose()?;
        let info =
            self.info_proxy.as_ref().map_or(self.info_url.clone(), |proxy| format!("http://{}", proxy.address()));
        let mut args = strings(&["--data", &data.display().to_string(), "--listen", any_port(plan), "--zone", zone]);
        args.extend(strings(&["--info", &info, "--join-secret-file", &secret.display().to_string()]));
        if host.is_some() {
            args.extend(strings(&["--public-url", "auto"]));
        }
        let amqp = plan.file_server_amqp.as_ref().or(plan.amqp.as_ref());
        args.extend(amqp.iter().flat_map(|url| ["--amqp".to_owned(), (*url).clone()]));
        args.extend(plan.file_server_args.clone());
        let proxy = if plan.proxied { Some(Proxy::start().await?) } else { None };
        if let Some(proxy) = &proxy {
            args.extend(["--public-url".to_owned(), format!("http://{}", proxy.address())]);
        }
        let known = self.server_ids().await?;
        let env = plan.file_server_env.clone();
        let surroundings = Surroundings { host: host.as_ref(), env: &env, ..Surroundings::default() };
        let process = Server::start_in(surroundings, "ddm-file-server", &args, &log).await?;
        keep_port(&mut args, &process);
        if let Some(proxy) = &proxy {
            proxy.forward_to(process.address());
        }
        let fresh = async || Ok(self.server_ids().await?.into_iter().find(|id| !known.contains(id)));
        let id = eventually("the file server is listed", PATIENCE, fresh).await?;
        self.servers.push(FileServer { process: Some(process), proxy, id, host, args, env, log });
        Ok(())
    }

    /// The ids of the live file servers.
    ///
    /// # Errors
    /// When the info-server does not say.
    pub async fn server_ids(&self) -> anyhow::Result<Vec<String>> {
        let list = self.get("/v1/servers").await?;
        let servers = list["servers"].as_array().context("a list of servers")?;
        Ok(servers.iter().filter_map(|server| server["id"].as_str()).map(str::to_owned).collect())
    }

    /// Takes a file server's process away from the cluster, to be killed or stopped.
    ///
    /// # Errors
    /// When it was taken already.
    pub fn take_server(&mut self, n: usize) -> anyhow::Result<Server> {
        self.servers.get_mut(n).and_then(|server| server.process.take()).context("no such process")
    }

    /// Starts a file server again, on the data and at the address that it had.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn restart_server(&mut self, n: usize) -> anyhow::Result<()> {
        self.restart_server_failing(n, None).await
    }

    /// As [`Self::restart_server`], with system calls that fail from the start on.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn restart_server_failing(&mut self, n: usize, failing: Option<&Failing>) -> anyhow::Result<()> {
        let server = self.servers.get_mut(n).context("no such file server")?;
        let surroundings = Surroundings { host: server.host.as_ref(), failing, env: &server.env, before: &[] };
        let started = Server::start_in(surroundings, "ddm-file-server", &server.args, &server.log).await?;
        server.process = Some(started);
        Ok(())
    }

    /// Gives a file server another value for one of its arguments, from its next start on.
    ///
    /// # Errors
    /// When there is no such server, or it has no such argument.
    pub fn change_server(&mut self, n: usize, flag: &str, value: &str) -> anyhow::Result<()> {
        let server = self.servers.get_mut(n).context("no such file server")?;
        anyhow::ensure!(server.args.iter().any(|arg| arg == flag), "it has no {flag}");
        replace_value(&mut server.args, flag, value);
        Ok(())
    }

    /// Starts a file server again with its data copied to a disk of its own of so many MiB, which goes with the process. Needs
    /// namespaces of users, as systems have them for containers.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn restart_server_on_small_disk(&mut self, n: usize, mib: u32) -> anyhow::Result<()> {
        let before = small_disk(&self.path(&format!("file-server-{n}")), mib);
        let server = self.servers.get_mut(n).context("no such file server")?;
        let surroundings = Surroundings { before: &before, env: &server.env, ..Surroundings::default() };
        let started = Server::start_in(surroundings, "ddm-file-server", &server.args, &server.log).await?;
        server.process = Some(started);
        Ok(())
    }

    /// Starts the info-server again, on the data and at the address that it had.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn restart_info(&mut self) -> anyhow::Result<()> {
        self.restart_info_failing(None).await
    }

    /// As [`Self::restart_info`], with system calls that fail from the start on.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn restart_info_failing(&mut self, failing: Option<&Failing>) -> anyhow::Result<()> {
        let log = self.path("info-server.log");
        let surroundings = Surroundings { host: self.info_host.as_ref(), failing, ..Surroundings::default() };
        self.info = Some(Server::start_in(surroundings, "ddm-info-server", &self.info_args, &log).await?);
        Ok(())
    }

    /// Starts the info-server again with its data copied to a disk of its own of so many MiB, which goes with the process; the path by
    /// which others reach the folder. Needs namespaces of users, as systems have them for containers.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn restart_info_on_small_disk(&mut self, mib: u32) -> anyhow::Result<PathBuf> {
        let (data, log) = (self.path("info-server"), self.path("info-server.log"));
        let before = small_disk(&data, mib);
        let surroundings = Surroundings { before: &before, ..Surroundings::default() };
        let started = Server::start_in(surroundings, "ddm-info-server", &self.info_args, &log).await?;
        let seen = format!("/proc/{}/root{}", started.pid()?.as_raw_nonzero(), data.display());
        self.info = Some(started);
        Ok(seen.into())
    }

    /// Starts the info-server on another folder of the cluster's and on another port; clients and the requests of the test go there
    /// from now on, and so do file servers behind the plan's proxy. Logs in anew.
    ///
    /// # Errors
    /// When it does not start, or does not know the admin.
    pub async fn start_info_elsewhere(&mut self, folder: &str) -> anyhow::Result<()> {
        let data = self.path(folder).display().to_string();
        replace_value(&mut self.info_args, "--data", &data);
        replace_value(&mut self.info_args, "--listen", "127.0.0.1:0");
        self.restart_info().await?;
        let info = self.info.as_ref().context("an info-server")?;
        keep_port(&mut self.info_args, info);
        self.info_url = format!("http://{}", info.address());
        if let Some(proxy) = &self.info_proxy {
            proxy.forward_to(info.address());
        }
        self.token = self.log_in(ADMIN).await?;
        match std::fs::remove_file(self.path("logins.json")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            Ok(()) | Err(_) => Ok(()),
        }
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

    /// The client, logged in as the admin, working in the cluster's folder.
    ///
    /// # Errors
    /// When it is not built.
    pub fn client(&self, args: &[&str]) -> anyhow::Result<Command> {
        self.client_failing(args, None)
    }

    /// As [`Self::client`], with system calls that fail from the start on.
    ///
    /// # Errors
    /// When it is not built.
    pub fn client_failing(&self, args: &[&str], failing: Option<&Failing>) -> anyhow::Result<Command> {
        let logins = self.path("logins.json");
        if !logins.exists() {
            let ends = "2100-01-01T00:00:00Z";
            let kept = json!({ &self.info_url: { "email": ADMIN, "token": self.token, "expires_at": ends } });
            crate::process::write_private(&logins, kept.to_string().as_bytes())?;
        }
        self.history.client(self.folder.path(), args);
        let mut client = Surroundings { host: self.client_host.as_ref(), failing, ..Surroundings::default() }
            .command("ddm-client")?;
        client.current_dir(self.folder.path()).env("HOME", self.folder.path()).arg("--session-file").arg(logins);
        client.args(["--info", &self.info_url]).args(args);
        Ok(client)
    }

    /// Runs the client to its end.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn run_client(&self, args: &[&str]) -> anyhow::Result<Output> {
        let output = run_with_input(self.client(args)?, "").await?;
        self.history.client_ended(self.folder.path(), args, output.status.success());
        Ok(output)
    }

    /// Starts the client, its output kept for [`finish`].
    ///
    /// # Errors
    /// When it does not start.
    pub fn spawn_client(&self, args: &[&str]) -> anyhow::Result<Child> {
        Ok(self.client(args)?.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?)
    }

    /// Publishes a file through the client; its id.
    ///
    /// # Errors
    /// When it is not published; the message holds what the client said.
    pub async fn publish(&self, path: &Path, more: &[&str]) -> anyhow::Result<String> {
        let text = path.display().to_string();
        let mut args = vec!["--json", "publish", &text];
        args.extend(more);
        let output = self.run_client(&args).await?;
        self.published(&output, path)
    }

    /// Writes down what a client that published `path` with `--json` was told; the file's id. [`Self::publish`] does it by
    /// itself.
    ///
    /// # Errors
    /// When it is not published; the message holds what the client said.
    pub fn published(&self, output: &Output, path: &Path) -> anyhow::Result<String> {
        ensure!(output.status.success(), "publish: {}", String::from_utf8_lossy(&output.stderr));
        let events = events(output)?;
        let published = events.iter().find(|event| event["event"] == "published").context("an outcome")?;
        let id = published["file"]["id"].as_str().context("an id")?;
        self.history.published(id, path)?;
        Ok(id.to_owned())
    }

    /// The details query.
    ///
    /// # Errors
    /// Every status but a success.
    pub async fn details(&self, id: &str) -> anyhow::Result<Value> {
        let details = self.get(&format!("/v1/files/{id}")).await?;
        self.history.granted(&details);
        Ok(details)
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

/// Waits for a child that a test started.
///
/// # Errors
/// When it does not end in time.
pub async fn finish(child: Child) -> anyhow::Result<Output> {
    Ok(timeout(COMMAND, child.wait_with_output()).await.context("the command does not end")??)
}

/// The events that a command printed with `--json`.
///
/// # Errors
/// When a line is not JSON.
pub fn events(output: &Output) -> anyhow::Result<Vec<Value>> {
    let text = std::str::from_utf8(&output.stdout)?;
    text.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
}

/// Runs a command to its end, with `input` on its standard input.
///
/// # Errors
/// When it does not end in time.
pub async fn run_with_input(mut command: Command, input: &str) -> anyhow::Result<Output> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // A command that reads nothing may have closed it already.
        let _ = stdin.write_all(input.as_bytes()).await;
    }
    finish(child).await
}

fn strings(args: &[&str]) -> Vec<String> {
    args.iter().map(|arg| (*arg).to_owned()).collect()
}

fn add_broker(args: &mut Vec<String>, plan: &Plan) {
    args.extend(plan.amqp.iter().flat_map(|url| ["--amqp".to_owned(), url.clone()]));
}

/// The port of a server stays the same when it is started again.
fn keep_port(args: &mut [String], server: &Server) {
    let listen = args.windows(2).find_map(|pair| pair[1].strip_prefix("0.0.0.0:").map(|_| "0.0.0.0"));
    let ip = listen.map_or_else(|| server.address().ip().to_string(), str::to_owned);
    replace_value(args, "--listen", &format!("{ip}:{}", server.address().port()));
}

/// On all addresses where the host's own is not known to the server.
const fn any_port(plan: &Plan) -> &'static str {
    if plan.net.is_some() { "0.0.0.0:0" } else { "127.0.0.1:0" }
}

/// What starts a program with a folder copied to a disk of so many MiB, which nobody else sees.
fn small_disk(folder: &Path, mib: u32) -> Vec<String> {
    let script = format!(
        "set -eu; disk=$(mktemp -d); mount -t tmpfs -o size={mib}m none $disk; cp -a \"$0/.\" $disk; mount --bind $disk \"$0\"; \
         exec \"$@\""
    );
    let mut before = strings(&["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", &script]);
    before.push(folder.display().to_string());
    before
}

fn replace_value(args: &mut [String], flag: &str, value: &str) {
    if let Some([_, old]) = args.windows(2).position(|pair| pair[0] == flag).and_then(|at| args.get_mut(at..at + 2)) {
        value.clone_into(old);
    }
}
