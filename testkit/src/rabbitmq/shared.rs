//! The node that all tests of a run share, and their virtual hosts.

use std::{
    env,
    fs::File,
    os::unix::process::{CommandExt as _, parent_id},
    path::Path,
    process::Stdio,
};

use anyhow::Context as _;
use rand::RngExt as _;
use serde_json::json;
use tokio::sync::OnceCell;

use super::{Ports, RabbitMq};

/// Virtual hosts that the shared node starts with: to add one later takes two runs of `rabbitmqctl`.
const PREPARED_VHOSTS: usize = 36;

impl RabbitMq {
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

    /// Makes an empty virtual host and returns its name.
    pub(super) async fn new_vhost(&self) -> anyhow::Result<String> {
        if let Some(name) = self.prepared_vhost().await? {
            return Ok(name);
        }
        let name = format!("test-{:016x}", rand::rng().random::<u64>());
        self.ctl(&["add_vhost", &name]).await?;
        self.ctl(&["set_permissions", "-p", &name, "guest", ".*", ".*", ".*"]).await?;
        Ok(name)
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
