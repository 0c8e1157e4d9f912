//! The secrets of the info-server and the broker, and the files that hold them.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use bus::Amqp;
use lifecycle::private_file;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::Instant;

use super::Upstream;

/// Time to wait for the file of the join secret, and time between two checks for it.
const SECRET_TIMEOUT: Duration = Duration::from_secs(10);
const SECRET_POLL_INTERVAL: Duration = Duration::from_millis(100);

impl Upstream {
    /// Returns the join secret, if there is one. Waits for its file: an info-server that is started for the first time together
    /// with this server creates it in a moment.
    pub(crate) async fn join_secret(&self) -> anyhow::Result<Option<SecretString>> {
        if let Some(path) = self.join_secret_file.as_ref().filter(|_| self.join_secret.is_none()) {
            wait_for_file(path).await;
        }
        secret(self.join_secret.as_ref(), self.join_secret_file.as_ref(), "--join-secret-file")
    }

    /// Returns the bus on the broker, if there is one. A file that names it is read again before each connection.
    pub(crate) fn broker(&self) -> anyhow::Result<Option<Amqp>> {
        let url = secret(self.amqp.as_ref(), self.amqp_file.as_ref(), "--amqp-file")?;
        let Some(url) = url else { return Ok(None) };
        let bus = match self.amqp_file.clone() {
            Some(path) => Amqp::reading(url.expose_secret(), Box::new(move || private_file::read_required(&path)))?,
            None => Amqp::new(url.expose_secret())?,
        };
        Ok(Some(bus))
    }
}

/// Waits for a file to appear, up to [`SECRET_TIMEOUT`].
async fn wait_for_file(path: &Path) {
    let deadline = Instant::now() + SECRET_TIMEOUT;
    if !path.exists() {
        tracing::info!(path = %path.display(), "Waiting for the join secret, which the info-server creates at its first start");
    }
    while !path.exists() && Instant::now() < deadline {
        tokio::time::sleep(SECRET_POLL_INTERVAL).await;
    }
}

/// Returns a secret, given itself or by a file.
fn secret(given: Option<&SecretString>, file: Option<&PathBuf>, setting: &str) -> anyhow::Result<Option<SecretString>> {
    if let Some(given) = given {
        return Ok(Some(given.expose_secret().trim().into()));
    }
    let Some(path) = file else { return Ok(None) };
    let text = private_file::read(path)
        .with_context(|| format!("{setting} {}", path.display()))?
        .with_context(|| format!("{setting} {} does not exist", path.display()))?;
    anyhow::ensure!(!text.trim().is_empty(), "{setting} {} is empty", path.display());
    Ok(Some(text.trim().into()))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::config::Cli;

    #[tokio::test(start_paused = true)]
    async fn a_join_secret_that_is_being_made_is_waited_for_and_one_that_does_not_come_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("join-secret");
        let config = Cli::parse_from(["ddm-file-server", "--join-secret-file", path.to_str().unwrap()]).config;
        let refused = config.upstream.join_secret().await.unwrap_err().to_string();
        assert!(refused.contains("join-secret does not exist"), "{refused}");
        let made = async {
            tokio::time::sleep(SECRET_POLL_INTERVAL * 3).await;
            private_file::write(&path, b"hunter2").unwrap();
        };
        let (secret, ()) = tokio::join!(config.upstream.join_secret(), made);
        assert_eq!(secret.unwrap().unwrap().expose_secret(), "hunter2");
    }
}
