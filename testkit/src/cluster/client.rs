//! The client on a cluster, and what it published.

use std::{
    path::Path,
    process::{Output, Stdio},
};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use super::{
    ADMIN, Cluster,
    commands::{events, run_with_input},
};
use crate::{
    power_cut::Recording,
    process::{Failing, Surroundings},
};

impl Cluster {
    /// The client, logged in as the admin, working in the cluster's folder.
    ///
    /// # Errors
    /// When it is not built.
    pub fn client(&self, args: &[&str]) -> anyhow::Result<Command> {
        self.client_failing(args, None)
    }

    /// Returns the command of [`Self::client`], with its system calls recorded in `trace`, see [`crate::power_cut`].
    ///
    /// # Errors
    /// When it is not built.
    pub fn client_recorded(&self, args: &[&str], trace: &Path) -> anyhow::Result<Command> {
        let before = Recording::words(trace)?;
        self.client_in(args, Surroundings { before: &before, ..Surroundings::default() })
    }

    /// Returns the command of [`Self::client`], with system calls that fail from the start on.
    ///
    /// # Errors
    /// When it is not built.
    pub fn client_failing(&self, args: &[&str], failing: Option<&Failing>) -> anyhow::Result<Command> {
        self.client_in(args, Surroundings { failing, ..Surroundings::default() })
    }

    fn client_in(&self, args: &[&str], surroundings: Surroundings<'_>) -> anyhow::Result<Command> {
        let logins = self.path("logins.json");
        if !logins.exists() {
            let ends = "2100-01-01T00:00:00Z";
            let kept = json!({ &self.info_url: { "email": ADMIN, "token": self.token, "expires_at": ends } });
            crate::process::write_private(&logins, kept.to_string().as_bytes())?;
        }
        self.history.client(self.folder.path(), args);
        let mut client = Surroundings { host: self.client_host.as_ref(), ..surroundings }.command("ddm-client")?;
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

    /// Starts the client, its output kept for `finish`.
    ///
    /// # Errors
    /// When it does not start.
    pub fn spawn_client(&self, args: &[&str]) -> anyhow::Result<Child> {
        Ok(self.client(args)?.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?)
    }

    /// Publishes a file through the client, as an entry of its own even if the same content is published already; its id.
    ///
    /// # Errors
    /// When it is not published; the message holds what the client said.
    pub async fn publish(&self, path: &Path, more: &[&str]) -> anyhow::Result<String> {
        let text = path.display().to_string();
        let mut args = vec!["--json", "publish", "--again", &text];
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
        self.history.published(id, path, published["servers"].as_array().map_or(1, Vec::len))?;
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
