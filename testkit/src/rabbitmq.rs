//! A RabbitMQ node of its own for a test: real broker, real disk, own name, ports and folder.
//!
//! Needs the broker's scripts (`apt-get install rabbitmq-server`; the system's own node need not run). They are started
//! directly, without the distribution's wrapper, so the node runs as the user who runs the test.

mod shared;

use std::{
    env,
    io::Write as _,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time,
};

pub use self::shared::VirtualHost;
use crate::port::free_port;

const SCRIPT: &str = include_str!("rabbitmq/node.sh");
/// Folders of the broker's scripts: Debian's, then those of the generic archive and the official image.
const FOLDERS: [&str; 2] = ["/usr/lib/rabbitmq/bin", "/opt/rabbitmq/sbin"];
/// A node takes 3 s on an idle machine; many at once on two cores take their time.
const START_TIMEOUT: Duration = Duration::from_secs(120);
const COMMAND_TIMEOUT: Duration = Duration::from_secs(60);

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

    /// The URI of the default virtual host, with user and password.
    pub fn uri(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/%2f", self.ports.amqp)
    }

    /// The TCP port the broker listens on, also while it is killed.
    pub fn port(&self) -> u16 {
        self.ports.amqp
    }

    /// Runs `rabbitmqctl` against the node and answers what it printed.
    ///
    /// # Errors
    /// The command failed (with what it said) or took longer than a minute.
    pub async fn ctl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let end = Instant::now() + START_TIMEOUT;
        loop {
            let mut command = tokio::process::Command::from(self.command("rabbitmqctl"));
            command.args(["--quiet", "--node", &self.name()]).args(arguments).stdin(Stdio::null()).kill_on_drop(true);
            let output =
                time::timeout(COMMAND_TIMEOUT, command.output()).await.context("rabbitmqctl does not end")??;
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
        let end = Instant::now() + START_TIMEOUT;
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
