//! A RabbitMQ node of its own for a test: real broker, real disk, own name, ports and folder.
//!
//! Needs the broker's scripts (`apt-get install rabbitmq-server`; the system's own node need not run). They are started
//! directly, without the distribution's wrapper, so the node runs as the user who runs the test.

use std::{
    env,
    fs::File,
    io::Write as _,
    net::TcpListener,
    os::unix::process::{CommandExt as _, parent_id},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use rand::RngExt as _;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::OnceCell,
    time,
};

const SCRIPT: &str = include_str!("rabbitmq/node.sh");
/// Folders of the broker's scripts: Debian's, then those of the generic archive and the official image.
const FOLDERS: [&str; 2] = ["/usr/lib/rabbitmq/bin", "/opt/rabbitmq/sbin"];
/// A node takes 3 s on an idle machine; many at once on two cores take their time.
const START: Duration = Duration::from_secs(120);
const COMMAND: Duration = Duration::from_secs(60);
/// Virtual hosts that the shared node starts with: to add one later takes two runs of `rabbitmqctl`.
const PREPARED_VHOSTS: usize = 36;

/// A running node, and all that belongs to it. Dropping it kills the node and removes its folder.
#[derive(Debug)]
pub struct RabbitMq {
    // Dropped before the folder it works in.
    process: Mutex<Option<Process>>,
    scripts: PathBuf,
    ports: Ports,
    folder: PathBuf,
    /// Removes the folder of a node that belongs to this process.
    own_folder: Option<TempDir>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Ports {
    amqp: u16,
    distribution: u16,
    epmd: u16,
}

impl RabbitMq {
    /// Starts a node of this test alone, with an empty database, and waits until it answers.
    ///
    /// # Errors
    /// The broker is not installed (the message says what to install) or did not start; the message ends with its log.
    pub async fn start() -> anyhow::Result<Self> {
        let own_folder = tempfile::Builder::new().prefix("ddm-rabbitmq-").tempdir()?;
        let folder = own_folder.path().to_owned();
        let node = Self::at(folder, Ports::free()?, Some(own_folder))?;
        node.configure("")?;
        node.restart().await?;
        Ok(node)
    }

    fn at(folder: PathBuf, ports: Ports, own_folder: Option<TempDir>) -> anyhow::Result<Self> {
        Ok(Self { process: Mutex::default(), scripts: scripts()?, ports, folder, own_folder })
    }

    /// Writes the node's files; `more` is added to its settings.
    fn configure(&self, more: &str) -> std::io::Result<()> {
        let write = |name: &str, text: &str| std::fs::write(self.folder.join(name), text);
        write("node.sh", SCRIPT)?;
        write("environment", "")?;
        write("enabled_plugins", "[].\n")?;
        write("rabbitmq.conf", &(settings(self.ports.amqp) + more))
    }

    /// Returns the node that all tests of a run share, for those that neither kill nor block it. Panics when it does not start: a
    /// test without its broker fails, it is not skipped.
    #[expect(clippy::panic, reason = "a test without its broker must fail loudly")]
    async fn shared() -> &'static Self {
        static NODE: OnceCell<RabbitMq> = OnceCell::const_new();
        // The static is never dropped: the end of the run, or of this process, ends the node, see node.sh.
        let node = || async { Self::join().await.unwrap_or_else(|error| panic!("{error:#}")) };
        NODE.get_or_init(node).await
    }

    /// Joins the node of this test run, starting it first if no other process did.
    async fn join() -> anyhow::Result<Self> {
        // The run's tests are processes of their own, all of them children of the one that runs them.
        let Ok(run) = env::var("NEXTEST_RUN_ID") else { return Self::start().await };
        let folder = env::temp_dir().join(format!("ddm-rabbitmq-run-{run}"));
        std::fs::create_dir_all(&folder)?;
        let lock = lock(&folder).await?;
        let ports_file = folder.join("ports");
        if let Ok(ports) = std::fs::read(&ports_file) {
            return Self::at(folder, serde_json::from_slice(&ports)?, None);
        }
        let node = Self::at(folder, Ports::free()?, None)?;
        let definitions = node.folder.join("definitions.json");
        std::fs::write(&definitions, definitions_of(PREPARED_VHOSTS).to_string())?;
        node.configure(&format!("load_definitions = {}\n", definitions.display()))?;
        let mut command = node.server();
        command.arg(parent_id().to_string()).process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().context("cannot start the shell that runs RabbitMQ")?;
        node.answers().await?;
        std::fs::write(ports_file, serde_json::to_vec(&node.ports)?)?;
        drop(lock);
        Ok(node)
    }

    /// Takes one of the virtual hosts that the shared node was started with; `None` when all are taken.
    async fn prepared_vhost(&self) -> anyhow::Result<Option<String>> {
        if self.own_folder.is_some() {
            return Ok(None);
        }
        let _lock = lock(&self.folder).await?;
        let file = self.folder.join("vhosts-taken");
        let taken = std::fs::read_to_string(&file).map_or(Ok(0), |taken| taken.parse())?;
        std::fs::write(file, (taken + 1).to_string())?;
        Ok((taken < PREPARED_VHOSTS).then(|| format!("test-{taken}")))
    }

    /// The URI of the default virtual host, with user and password.
    pub fn uri(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/%2f", self.ports.amqp)
    }

    /// The TCP port the broker listens on, also while it is killed.
    pub fn port(&self) -> u16 {
        self.ports.amqp
    }

    /// Makes an empty virtual host and returns its name.
    async fn new_vhost(&self) -> anyhow::Result<String> {
        if let Some(name) = self.prepared_vhost().await? {
            return Ok(name);
        }
        let name = format!("test-{:016x}", rand::rng().random::<u64>());
        self.ctl(&["add_vhost", &name]).await?;
        self.ctl(&["set_permissions", "-p", &name, "guest", ".*", ".*", ".*"]).await?;
        Ok(name)
    }

    /// Runs `rabbitmqctl` against the node and answers what it printed.
    ///
    /// # Errors
    /// The command failed (with what it said) or took longer than a minute.
    pub async fn ctl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let end = Instant::now() + START;
        loop {
            let mut command = tokio::process::Command::from(self.command("rabbitmqctl"));
            command.args(["--quiet", "--node", &self.name()]).args(arguments).stdin(Stdio::null()).kill_on_drop(true);
            let output = time::timeout(COMMAND, command.output()).await.context("rabbitmqctl does not end")??;
            let (said, wrong) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            // A node speaks AMQP a moment before it counts as started.
            if !output.status.success() && wrong.contains("app to be running") && Instant::now() < end {
                continue;
            }
            ensure!(output.status.success(), "rabbitmqctl {} failed: {said}{wrong}", arguments.join(" "));
            return Ok(said.into_owned());
        }
    }

    /// Has the node write to disk what it would write within three minutes anyway, the names of new quorum queues among it:
    /// a node that is killed before finds such a queue without a leader.
    ///
    /// # Errors
    /// As [`Self::ctl`].
    pub async fn sync(&self) -> anyhow::Result<()> {
        self.ctl(&["eval", "[dets:sync(Table) || Table <- dets:all()]."]).await.map(drop)
    }

    /// Kills the node as a power cut would: SIGKILL, nothing flushed. The folder stays for [`Self::restart`].
    ///
    /// # Errors
    /// The process cannot be waited for.
    pub async fn kill(&self) -> anyhow::Result<()> {
        let process = self.process.lock().unwrap_or_else(PoisonError::into_inner).take();
        tokio::task::spawn_blocking(move || process.map_or(Ok(()), Process::keep)).await??;
        Ok(())
    }

    /// Starts the node on its old folder and ports, killing it first if it runs.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn restart(&self) -> anyhow::Result<()> {
        self.kill().await?;
        *self.process.lock().unwrap_or_else(PoisonError::into_inner) = Some(Process::spawn(self.server())?);
        self.answers().await
    }

    /// The shell that runs the node.
    fn server(&self) -> Command {
        let mut command = self.command("");
        command.arg(self.folder.join("node.sh")).arg(self.scripts.join("rabbitmq-server"));
        command
    }

    async fn answers(&self) -> anyhow::Result<()> {
        let end = Instant::now() + START;
        while !speaks_amqp(self.ports.amqp).await {
            if Instant::now() > end {
                bail!("RabbitMQ does not answer on port {}:\n{}", self.ports.amqp, self.log());
            }
            time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    fn name(&self) -> String {
        format!("ddm-{}@localhost", self.ports.amqp)
    }

    /// A script of the broker (or, for an empty name, the shell) in the node's environment and in no other.
    fn command(&self, script: &str) -> Command {
        let program = if script.is_empty() { PathBuf::from("sh") } else { self.scripts.join(script) };
        let path = |name: &str| self.folder.join(name);
        let mut command = Command::new(program);
        for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("RABBITMQ_")) {
            command.env_remove(name);
        }
        command
            .current_dir(&self.folder)
            // The Erlang cookie is made in the home folder.
            .env("HOME", &self.folder)
            .env("ERL_EPMD_PORT", self.ports.epmd.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_CONF_ENV_FILE", path("environment"))
            .env("RABBITMQ_CONFIG_FILE", path("rabbitmq.conf"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", path("enabled_plugins"))
            .env("RABBITMQ_MNESIA_BASE", path("data"))
            .env("RABBITMQ_LOG_BASE", path("log"))
            .env("RABBITMQ_NODENAME", self.name())
            .env("RABBITMQ_DIST_PORT", self.ports.distribution.to_string())
            .env("RABBITMQ_CTL_ERL_ARGS", "-kernel inet_dist_use_interface {127,0,0,1}")
            // One scheduler that sleeps when idle: the test has better use for the processor.
            .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "+S 1:1 +SDio 4 -kernel inet_dist_use_interface {127,0,0,1}");
        command
    }

    /// The end of all the node wrote.
    fn log(&self) -> String {
        let file = self.folder.join("log").join(format!("{}.log", self.name()));
        let text = std::fs::read_to_string(&file).unwrap_or_else(|error| format!("{}: {error}", file.display()));
        let skip = text.lines().count().saturating_sub(30);
        text.lines().skip(skip).collect::<Vec<_>>().join("\n")
    }
}

/// An empty virtual host of the node that all tests of a run share.
#[derive(Debug)]
pub struct VirtualHost {
    node: &'static RabbitMq,
    name: String,
}

impl VirtualHost {
    /// Makes a virtual host for one test.
    ///
    /// # Errors
    /// As [`RabbitMq::ctl`].
    pub async fn new() -> anyhow::Result<Self> {
        let node = RabbitMq::shared().await;
        Ok(Self { node, name: node.new_vhost().await? })
    }

    /// The URI of the virtual host, with user and password.
    pub fn uri(&self) -> String {
        self.uri_of("guest", "guest")
    }

    /// The same for another user.
    pub fn uri_of(&self, user: &str, password: &str) -> String {
        format!("amqp://{user}:{password}@127.0.0.1:{}/{}", self.node.port(), self.name)
    }

    /// Adds a user who may do everything in this virtual host; returns the URI.
    ///
    /// # Errors
    /// As [`RabbitMq::ctl`].
    pub async fn add_user(&self, user: &str, password: &str) -> anyhow::Result<String> {
        self.node.ctl(&["add_user", user, password]).await?;
        self.ctl(&["set_permissions", user, ".*", ".*", ".*"]).await?;
        Ok(self.uri_of(user, password))
    }

    /// Changes the password of a user.
    ///
    /// # Errors
    /// As [`RabbitMq::ctl`].
    pub async fn change_password(&self, user: &str, password: &str) -> anyhow::Result<()> {
        self.node.ctl(&["change_password", user, password]).await.map(drop)
    }

    /// Runs `rabbitmqctl` on the virtual host and returns what it printed.
    ///
    /// # Errors
    /// As [`RabbitMq::ctl`].
    pub async fn ctl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let (command, rest) = arguments.split_first().context("a command of rabbitmqctl")?;
        self.node.ctl(&[&[*command, "--vhost", &self.name], rest].concat()).await
    }
}

/// The shell that runs node.sh; the node lives as long as its standard input.
#[derive(Debug)]
struct Process(Child);

impl Process {
    fn spawn(mut command: Command) -> anyhow::Result<Self> {
        // A group of its own: a signal to the test's group must not end the shell before it has tidied up.
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Self(command.spawn().context("cannot start the shell that runs RabbitMQ")?))
    }

    /// Kills the node and keeps its folder.
    fn keep(mut self) -> std::io::Result<()> {
        if let Some(mut input) = self.0.stdin.take() {
            input.write_all(b"keep\n")?;
        }
        self.0.wait().map(drop)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Closes its standard input first.
        if let Err(error) = self.0.wait() {
            eprintln!("cannot wait for RabbitMQ to end: {error}");
        }
    }
}

impl Ports {
    fn free() -> anyhow::Result<Self> {
        Ok(Self { amqp: free_port()?, distribution: free_port()?, epmd: free_port()? })
    }
}

/// Locks the folder of the shared node against the other processes of the run, until the file is dropped.
async fn lock(folder: &Path) -> anyhow::Result<File> {
    let file = File::options().create(true).append(true).open(folder.join("lock"))?;
    tokio::task::spawn_blocking(move || file.lock().map(|()| file)).await?.context("cannot lock RabbitMQ's folder")
}

/// The definitions of a node with `count` virtual hosts for tests besides the default one.
fn definitions_of(count: usize) -> serde_json::Value {
    let names: Vec<_> = std::iter::once("/".to_owned()).chain((0..count).map(|n| format!("test-{n}"))).collect();
    let all = |vhost| json!({"user": "guest", "vhost": vhost, "configure": ".*", "write": ".*", "read": ".*"});
    json!({
        "users": [{"name": "guest", "password": "guest", "tags": "administrator"}],
        "vhosts": names.iter().map(|name| json!({"name": name})).collect::<Vec<_>>(),
        "permissions": names.iter().map(all).collect::<Vec<_>>(),
    })
}

fn settings(port: u16) -> String {
    format!(
        "listeners.tcp.1 = 127.0.0.1:{port}\n\
         disk_free_limit.absolute = 10MB\n\
         vm_memory_high_watermark.absolute = 1GB\n\
         log.console = false\n\
         log.file.level = info\n"
    )
}

fn scripts() -> anyhow::Result<PathBuf> {
    let own = env::var_os("RABBITMQ_SCRIPTS_DIR").map(PathBuf::from);
    let found =
        own.into_iter().chain(FOLDERS.map(PathBuf::from)).find(|folder| folder.join("rabbitmq-server").exists());
    let Some(found) = found else {
        bail!(
            "this test needs a RabbitMQ broker: apt-get install rabbitmq-server, or set RABBITMQ_SCRIPTS_DIR to the folder \
             of rabbitmq-server and rabbitmqctl (looked in {})",
            FOLDERS.join(", ")
        );
    };
    for tool in ["epmd", "setsid"] {
        let paths = env::var_os("PATH").unwrap_or_default();
        ensure!(
            env::split_paths(&paths).any(|folder| Path::new(&folder).join(tool).exists()),
            "this test needs '{tool}' in PATH: apt-get install erlang-base util-linux"
        );
    }
    Ok(found)
}

/// A port below the range that the system gives to outgoing connections, so that it is still free after a restart.
pub(crate) fn free_port() -> anyhow::Result<u16> {
    for _ in 0..1000 {
        let port = rand::rng().random_range(10_000..32_000);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port below 32000")
}

/// Returns true if a listener answers the AMQP 0-9-1 greeting with a method frame (`connection.start`).
async fn speaks_amqp(port: u16) -> bool {
    let greet = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.write_all(b"AMQP\x00\x00\x09\x01").await?;
        stream.read_u8().await
    };
    matches!(time::timeout(Duration::from_secs(5), greet).await, Ok(Ok(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_killed_node_comes_back_with_its_data_and_a_dropped_one_leaves_nothing() {
        let node = RabbitMq::start().await.unwrap();
        let vhost = node.new_vhost().await.unwrap();
        node.kill().await.unwrap();
        assert!(!speaks_amqp(node.port()).await);
        node.restart().await.unwrap();
        let vhosts = node.ctl(&["list_vhosts"]).await.unwrap();
        assert!(vhosts.lines().any(|name| name == vhost), "{vhosts}");
        assert!(node.ctl(&["no_such_command"]).await.is_err());

        let (folder, port) = (node.folder.clone(), node.port());
        drop(node);
        assert!(!folder.exists());
        assert!(!speaks_amqp(port).await);
    }
}
