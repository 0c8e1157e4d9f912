//! Publication of files from this machine through its own file server: `ddm-file-server import`.

use std::{fs::File, path::Path, time::Duration};

use anyhow::Context as _;
use info_client::UserClient;
use lifecycle::{Shutdown, folder_lock::FolderLock, shutdown::GRACE};
use reqwest::Client;
use rustix::fs::{Mode, OFlags};
use tokio::task::JoinHandle;
use transfer::{rate_limiter::RateLimiter, source::client_builder, upload::Publisher};
use wire::{
    FileId, ServerId,
    catalogue::{CommitRequest, NewFile, Policy},
};

use crate::{
    App,
    cli::login::log_in,
    config::{Config, Import, LastStart},
    upstream::identity::Identity,
};

/// Time that the info-server has to accept a server that was started for the import alone.
const REGISTRATION_TIMEOUT: Duration = Duration::from_secs(20);
const INTERRUPTED: &str = "interrupted";

/// Publishes files so that the server of this data folder has a replica of each, and prints their ids.
///
/// Works beside a running server; where none runs, it is started for as long as it takes, with the settings of its last start.
///
/// # Errors
/// With the first file that cannot be published, and what to do about it. Files published before stay.
pub async fn run(config: Config, import: Import) -> anyhow::Result<()> {
    anyhow::ensure!(config.storage.slots.is_none(), "an import goes through one server: name its folder with --data");
    anyhow::ensure!(import.name.is_none() || import.paths.len() == 1, "--name fits one file only");
    // Errors of this machine come before the questions for the log-in.
    for path in &import.paths {
        open_regular(path).with_context(|| format!("cannot publish {}", path.display()))?;
    }
    let config = settings_of_server(config)?;
    let client = config.upstream.build_client(client_builder())?;
    let info = |session| UserClient::new(config.upstream.info.clone(), client.clone(), session);
    // Before signals are handled: one that comes during the password prompt ends the program at once.
    let session = log_in(&import.login, &info(None)).await?;
    let shutdown = Shutdown::new();
    let signals = tokio::spawn(shutdown.clone().follow_signals_and_hangup(GRACE));
    let info = info(Some(session));
    let outcome = Importer { config: &config, import: &import, info, client, shutdown: &shutdown }.run().await;
    signals.abort();
    outcome
}

/// Returns the settings for the import: the given ones beside a running server, and those of its last start for a stopped one.
///
/// # Errors
/// When no server ever worked on the folder, or its settings are not known.
fn settings_of_server(config: Config) -> anyhow::Result<Config> {
    let data = &config.storage.data;
    if FolderLock::is_held(data)? {
        return Ok(config);
    }
    config.existing_database()?;
    let last = LastStart::read(data)?.with_context(|| {
        format!(
            "the server of {} is not running, and its address and zone are not known: start it, then import again",
            data.display()
        )
    })?;
    last.apply(config)
}

/// Publishes the files of one command.
struct Importer<'a> {
    config: &'a Config,
    import: &'a Import,
    info: UserClient,
    client: Client,
    shutdown: &'a Shutdown,
}

impl Importer<'_> {
    async fn run(&self) -> anyhow::Result<()> {
        let server = Host::find_or_start(self.config, self.shutdown).await?;
        let publisher = Publisher {
            client: self.client.clone(),
            // This also makes the targets store a file that has no chunks.
            resume: true,
            rate_limiter: RateLimiter::default(),
            cancel: self.shutdown.finishing().clone(),
            progress: Box::new(|_| ()),
        };
        let mut outcome = Ok(());
        for path in &self.import.paths {
            let published = self.publish(path, &server.id, &publisher).await;
            match published.with_context(|| format!("cannot publish {}", path.display())) {
                Ok(id) => println!("{id}"),
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            }
        }
        server.stop(self.shutdown).await?;
        outcome
    }

    async fn publish(&self, path: &Path, server: &ServerId, publisher: &Publisher) -> anyhow::Result<FileId> {
        let Self { import, info, shutdown, .. } = self;
        anyhow::ensure!(!shutdown.finishing().is_cancelled(), INTERRUPTED);
        let file = open_regular(path)?;
        let name = match &import.name {
            Some(name) => name.clone(),
            None => path.file_name().and_then(|name| name.to_str()).context("give it a --name")?.parse()?,
        };
        let policy = Policy { replicas: import.replicas, zones: None, through: Some(server.clone()) };
        let size = file.metadata()?.len();
        let new = NewFile { name, size, media_type: None, policy: Some(policy), quorum: import.quorum, zone: None };
        // Its answer is waited for even when stopping: otherwise the file would stay announced for ever.
        let announced = shutdown.aborting().run_until_cancelled(info.announce(&new)).await;
        let plan = announced.context(INTERRUPTED)??;
        let sent = match publisher.publish(file, &plan).await {
            Ok(sent) => sent,
            Err(error) => {
                // No client could finish it: it would stay in the catalogue as uploading for ever.
                if let Err(error) = info.remove(plan.id).await {
                    tracing::warn!(file = %plan.id, %error, "Unfinished file {} could not be removed", plan.id);
                }
                return Err(error.into());
            }
        };
        for target in &sent.targets {
            if let Some(reason) = &target.failure {
                let server = &target.server;
                tracing::warn!(file = %plan.id, %server, %reason, "Server {server} did not receive file {}", plan.id);
            }
        }
        let commit = CommitRequest { sha256: sent.sha256, chunks: sent.digests };
        let committed = shutdown.finishing().run_until_cancelled(info.commit(plan.id, &commit)).await;
        let committed = committed.with_context(|| format!("{INTERRUPTED}: file {} may still be uploading", plan.id))?;
        committed.with_context(|| format!("file {} is still uploading", plan.id))?;
        Ok(plan.id)
    }
}

/// Opens a regular file: a pipe or a device could block the reader, or never end.
fn open_regular(path: &Path) -> anyhow::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    anyhow::ensure!(file.metadata()?.is_file(), "it is not a regular file");
    Ok(file)
}

/// The server that stores the first replica.
struct Host {
    id: ServerId,
    /// The server that was started for this import alone.
    own: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Host {
    async fn find_or_start(config: &Config, shutdown: &Shutdown) -> anyhow::Result<Self> {
        let data = &config.storage.data;
        if FolderLock::is_held(data)? {
            let identity = Identity::read(data)?.context("the server is still starting: try again")?;
            return Ok(Self { id: identity.id, own: None });
        }
        let app = App::build(config.clone()).await?;
        let (id, state) = (app.id().clone(), app.state());
        let host = Self { id, own: Some(tokio::spawn(app.run(shutdown.clone()))) };
        let registration = shutdown.finishing().run_until_cancelled(state.until_registered());
        match tokio::time::timeout(REGISTRATION_TIMEOUT, registration).await {
            Ok(Some(())) => Ok(host),
            Ok(None) => {
                host.stop(shutdown).await?;
                anyhow::bail!(INTERRUPTED);
            }
            Err(_) => {
                host.stop(shutdown).await?;
                anyhow::bail!("the info-server did not accept this server: see the log above");
            }
        }
    }

    async fn stop(self, shutdown: &Shutdown) -> anyhow::Result<()> {
        let Some(mut task) = self.own else { return Ok(()) };
        shutdown.finish();
        if let Ok(ended) = tokio::time::timeout(GRACE, &mut task).await {
            return ended?;
        }
        shutdown.abort();
        task.await?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        for path in [&pipe, folder.path(), Path::new("/dev/zero")] {
            let error = open_regular(path).unwrap_err().to_string();
            assert!(error.contains("not a regular file"), "{}: {error}", path.display());
        }
        let file = folder.path().join("file");
        std::fs::write(&file, b"x").unwrap();
        assert!(open_regular(&file).is_ok());
    }
}
