//! A whole system of real processes on free ports, in a folder that goes with it.

use std::{
    path::{Path, PathBuf},
    process::{Output, Stdio},
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
    process::{Server, command, eventually},
    proxy::Proxy,
};

/// How long registration and the like may take on a machine that is busy.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// How long one command may take.
const COMMAND: Duration = Duration::from_secs(120);
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
    /// Further arguments of the info-server.
    pub info_args: Vec<String>,
    /// Further arguments of every file server.
    pub file_server_args: Vec<String>,
    /// Whether clients reach the file servers through a [`Proxy`] each.
    pub proxied: bool,
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
    args: Vec<String>,
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
    info_url: String,
    info_args: Vec<String>,
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
        let data = folder.path().join("info-server");
        let mut info_args = strings(&["--data", &data.display().to_string(), "--listen", "127.0.0.1:0"]);
        add_broker(&mut info_args, plan);
        info_args.extend(plan.info_args.clone());
        let info = Server::start("ddm-info-server", &info_args, &folder.path().join("info-server.log")).await?;
        replace_value(&mut info_args, "--listen", &info.address().to_string());
        let info_url = format!("http://{}", info.address());
        let http = reqwest::Client::builder().no_proxy().timeout(COMMAND).build()?;
        let mut cluster =
            Self { info: Some(info), servers: Vec::new(), http, token: String::new(), info_url, info_args, folder };
        cluster.user(&["add", ADMIN, "--role", "admin"], Some(PASSWORD)).await?;
        cluster.token = cluster.log_in(ADMIN).await?;
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
        let mut args = strings(&["--data", &data.display().to_string(), "--listen", "127.0.0.1:0", "--zone", zone]);
        args.extend(strings(&["--info", &self.info_url, "--join-secret-file", &secret.display().to_string()]));
        add_broker(&mut args, plan);
        args.extend(plan.file_server_args.clone());
        let proxy = if plan.proxied { Some(Proxy::start().await?) } else { None };
        if let Some(proxy) = &proxy {
            args.extend(["--public-url".to_owned(), format!("http://{}", proxy.address())]);
        }
        let known = self.server_ids().await?;
        let process = Server::start("ddm-file-server", &args, &log).await?;
        replace_value(&mut args, "--listen", &process.address().to_string());
        if let Some(proxy) = &proxy {
            proxy.forward_to(process.address());
        }
        let fresh = async || Ok(self.server_ids().await?.into_iter().find(|id| !known.contains(id)));
        let id = eventually("the file server is listed", PATIENCE, fresh).await?;
        self.servers.push(FileServer { process: Some(process), proxy, id, args, log });
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
        let server = self.servers.get_mut(n).context("no such file server")?;
        server.process = Some(Server::start("ddm-file-server", &server.args, &server.log).await?);
        Ok(())
    }

    /// Starts the info-server again, on the data and at the address that it had.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn restart_info(&mut self) -> anyhow::Result<()> {
        let log = self.path("info-server.log");
        self.info = Some(Server::start("ddm-info-server", &self.info_args, &log).await?);
        Ok(())
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
        Ok(session["token"].as_str().context("a token")?.to_owned())
    }

    /// A request to the info-server as the admin.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
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
        let logins = self.path("logins.json");
        if !logins.exists() {
            let ends = "2100-01-01T00:00:00Z";
            let kept = json!({ &self.info_url: { "email": ADMIN, "token": self.token, "expires_at": ends } });
            crate::process::write_private(&logins, kept.to_string().as_bytes())?;
        }
        let mut client = command("ddm-client")?;
        client.current_dir(self.folder.path()).env("HOME", self.folder.path()).arg("--session-file").arg(logins);
        client.args(["--info", &self.info_url]).args(args);
        Ok(client)
    }

    /// Runs the client to its end.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn run_client(&self, args: &[&str]) -> anyhow::Result<Output> {
        run_with_input(self.client(args)?, "").await
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
        let path = path.display().to_string();
        let mut args = vec!["--json", "publish", &path];
        args.extend(more);
        let output = self.run_client(&args).await?;
        ensure!(output.status.success(), "publish: {}", String::from_utf8_lossy(&output.stderr));
        let events = events(&output)?;
        let published = events.iter().find(|event| event["event"] == "published").context("an outcome")?;
        Ok(published["file"]["id"].as_str().context("an id")?.to_owned())
    }

    /// The details query.
    ///
    /// # Errors
    /// Every status but a success.
    pub async fn details(&self, id: &str) -> anyhow::Result<Value> {
        self.get(&format!("/v1/files/{id}")).await
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

fn replace_value(args: &mut [String], flag: &str, value: &str) {
    if let Some([_, old]) = args.windows(2).position(|pair| pair[0] == flag).and_then(|at| args.get_mut(at..at + 2)) {
        value.clone_into(old);
    }
}
