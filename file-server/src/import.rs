//! Publishing files from this machine through its own file server: `ddm-file-server import`.

use std::{
    fs::File,
    io::{BufRead as _, Write as _},
    path::Path,
    time::Duration,
};

use anyhow::Context as _;
use lifecycle::{Shutdown, private_file, shutdown::GRACE};
use reqwest::Client;
use rustix::fs::{Mode, OFlags};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::task::JoinHandle;
use transfer::{info::InfoServer, source::client_builder, upload::Publisher};
use wire::{
    FileId, ServerId,
    catalog::{Commit, NewFile, Policy},
    token::{Kind, Token},
};

use crate::{
    App,
    blobs::Folder,
    config::{Config, Import, Login},
    identity::Identity,
};

/// How long the info-server may take to accept a server that was started for the import alone.
const REGISTRATION: Duration = Duration::from_secs(20);
const INTERRUPTED: &str = "interrupted";

/// Publishes files so that one replica of each stands on the server of this data folder, and prints their ids.
///
/// Works beside a running server; where none runs, one is started for as long as it takes.
///
/// # Errors
/// With what is wrong and what to do about it. What was published before stays.
pub async fn run(config: Config, import: Import) -> anyhow::Result<()> {
    anyhow::ensure!(config.storage.slots.is_none(), "an import goes through one server: name its folder with --data");
    anyhow::ensure!(import.name.is_none() || import.paths.len() == 1, "--name fits one file only");
    let client = client_builder().build()?;
    let info = |session| InfoServer::new(config.upstream.info.clone(), client.clone(), session);
    // Before signals are followed: one that comes while somebody is asked for a password ends the program at once.
    let session = log_in(&import.login, &info(None)).await?;
    let shutdown = Shutdown::new();
    let signals = tokio::spawn(shutdown.clone().follow_signals(GRACE));
    let outcome = publish_all(&config, &import, (&info(Some(session)), client.clone()), &shutdown).await;
    signals.abort();
    outcome
}

async fn publish_all(
    config: &Config,
    import: &Import,
    (info, client): (&InfoServer, Client),
    shutdown: &Shutdown,
) -> anyhow::Result<()> {
    let server = Host::find_or_start(config, shutdown).await?;
    let publisher = Publisher {
        client,
        // Also what makes the targets hold a file that has no chunks.
        resume: true,
        cancel: shutdown.finishing().clone(),
        progress: Box::new(|_| ()),
    };
    let mut outcome = Ok(());
    for path in &import.paths {
        let published = publish(path, import, &server.id, (info, &publisher, shutdown)).await;
        match published.with_context(|| format!("cannot publish {}", path.display())) {
            Ok(id) => println!("{id}"),
            Err(error) => {
                outcome = Err(error);
                break;
            }
        }
    }
    server.stop(shutdown).await?;
    outcome
}

async fn publish(
    path: &Path,
    import: &Import,
    server: &ServerId,
    (info, publisher, shutdown): (&InfoServer, &Publisher, &Shutdown),
) -> anyhow::Result<FileId> {
    anyhow::ensure!(!shutdown.finishing().is_cancelled(), INTERRUPTED);
    let file = open_regular(path)?;
    let name = match &import.name {
        Some(name) => name.clone(),
        None => path.file_name().and_then(|name| name.to_str()).context("give it a --name")?.parse()?,
    };
    let policy = Policy { replicas: import.replicas, zones: None, through: Some(server.clone()) };
    let size = file.metadata()?.len();
    let new = NewFile { name, size, media_type: None, policy: Some(policy), quorum: import.quorum, zone: None };
    // Its answer is waited for even when stopping: a file announced to nobody would stand in the catalogue for ever.
    let announced = shutdown.aborting().run_until_cancelled(info.announce(&new)).await;
    let plan = announced.context(INTERRUPTED)??;
    let sent = match publisher.publish(file, &plan).await {
        Ok(sent) => sent,
        Err(error) => {
            // Nobody could finish it: it would stand in the catalogue as uploading for ever.
            if let Err(error) = info.remove(plan.id).await {
                tracing::warn!(file = %plan.id, %error, "the unfinished file could not be removed");
            }
            return Err(error.into());
        }
    };
    for target in sent.targets.iter().filter_map(|target| Some((&target.server, target.failure.as_ref()?))) {
        tracing::warn!(file = %plan.id, server = %target.0, reason = %target.1, "a server was left behind");
    }
    let commit = Commit { sha256: sent.sha256, chunks: sent.digests };
    let committed = shutdown.finishing().run_until_cancelled(info.commit(plan.id, &commit)).await;
    let committed = committed.with_context(|| format!("{INTERRUPTED}: file {} may still be uploading", plan.id))?;
    committed.with_context(|| format!("file {} is still uploading", plan.id))?;
    Ok(plan.id)
}

/// Opens a file, and nothing that could make the reader wait or never end.
fn open_regular(path: &Path) -> anyhow::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    anyhow::ensure!(file.metadata()?.is_file(), "it is not a regular file");
    Ok(file)
}

/// A session for `login`, which may have to be asked for.
///
/// # Errors
/// With what is wrong with it, and what the info-server says.
pub(crate) async fn log_in(login: &Login, info: &InfoServer) -> anyhow::Result<Token> {
    if let Some(text) = session_text(login)? {
        let token: Token = text.expose_secret().trim().parse().context("the session token cannot be read")?;
        anyhow::ensure!(token.kind() == Kind::Session, "the token given is not a session's");
        return Ok(token);
    }
    let email = login.email.clone();
    let (email, password) = tokio::task::spawn_blocking(move || ask(email)).await??;
    Ok(info.log_in(&email, &password, None).await.context("cannot log in")?.token)
}

fn session_text(login: &Login) -> anyhow::Result<Option<SecretString>> {
    match (&login.session_token, &login.session_token_file) {
        (Some(token), _) => Ok(Some(token.clone())),
        (None, Some(path)) => {
            let text = private_file::read(path).with_context(|| format!("--session-token-file {}", path.display()))?;
            Ok(Some(text.with_context(|| format!("--session-token-file {} does not exist", path.display()))?.into()))
        }
        (None, None) => Ok(None),
    }
}

/// Talks to the terminal, on stderr: ids alone go to stdout.
fn ask(email: Option<String>) -> anyhow::Result<(String, SecretString)> {
    let email = match email {
        Some(email) => email,
        None => {
            eprint!("E-mail: ");
            std::io::stderr().flush()?;
            let mut line = String::new();
            std::io::stdin().lock().read_line(&mut line)?;
            line.trim().to_owned()
        }
    };
    let password = rpassword::prompt_password("Password: ").context("there is no terminal to ask for a password")?;
    Ok((email, password.into()))
}

/// The server that holds the first replica.
struct Host {
    id: ServerId,
    /// The server started for this import alone. It stops when the import is told to.
    own: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Host {
    async fn find_or_start(config: &Config, shutdown: &Shutdown) -> anyhow::Result<Self> {
        let data = &config.storage.data;
        if Folder::is_in_use(data)? {
            let identity = Identity::read(data)?.context("the server is only just starting: try again")?;
            return Ok(Self { id: identity.id, own: None });
        }
        let app = App::build(config.clone()).await?;
        let (id, server) = (app.id().clone(), app.server());
        let host = Self { id, own: Some(tokio::spawn(app.run(shutdown.clone()))) };
        let registration = shutdown.finishing().run_until_cancelled(server.registration());
        match tokio::time::timeout(REGISTRATION, registration).await {
            Ok(Some(())) => Ok(host),
            Ok(None) => {
                host.stop(shutdown).await?;
                anyhow::bail!(INTERRUPTED);
            }
            Err(_) => {
                host.stop(shutdown).await?;
                anyhow::bail!("the info-server did not accept this server");
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
