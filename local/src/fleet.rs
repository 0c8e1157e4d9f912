//! The servers of the local system: real ones, each with its own port and data folder.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::{Context as _, ensure};
use clap::Command;
use info_server::store::{
    Store,
    accounts::{self, NewSession, Role},
};
use jiff::Timestamp;
use lifecycle::{Shutdown, private_file};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::task::JoinHandle;
use url::Url;
use wire::{
    catalog::Session,
    token::{Kind, Token},
};

use crate::cli::{CommandLine, Home};

/// The account that is made for whoever runs this.
pub(crate) const ACCOUNT: &str = "admin@local";
const SESSION: Duration = Duration::from_secs(30 * 24 * 3600);

/// An info-server and its file servers.
pub(crate) struct Fleet {
    pub(crate) info: Url,
    pub(crate) password_file: PathBuf,
    pub(crate) session: Session,
    join_secret_file: PathBuf,
    info_server: Running,
    file_servers: Vec<FileServer>,
    amqp: Option<SecretString>,
}

struct Running {
    shutdown: Shutdown,
    task: JoinHandle<anyhow::Result<()>>,
}

struct FileServer {
    data: PathBuf,
    address: SocketAddr,
    running: Option<Running>,
}

impl Fleet {
    pub(crate) async fn start(line: &CommandLine, home: &Home) -> anyhow::Result<Self> {
        let (home, loopback) = (home.path(), [127, 0, 0, 1]);
        let data = home.join("info-server");
        let mut settings = vec!["--listen".to_owned(), SocketAddr::from((loopback, line.port)).to_string()];
        settings.extend(["--data".to_owned(), data.display().to_string()]);
        // Fewer servers than the usual quorum are still a system to try.
        settings.extend(["--quorum".to_owned(), line.providers.min(2).to_string()]);
        settings.extend(["--replicas".to_owned(), line.providers.to_string()]);
        let mut config: info_server::Config = parsed(settings)?;
        config.events.amqp = line.amqp.clone();
        let app = info_server::App::build(config).await.with_context(port_hint)?;
        let info = format!("http://{}", app.local_addr()?).parse()?;
        let password_file = home.join("password");
        let session = sign_in(app.store(), &password_file).await?;
        let shutdown = Shutdown::new();
        let info_server = Running { task: tokio::spawn(app.run(shutdown.clone())), shutdown };
        let join_secret_file = data.join("join-secret");
        let mut fleet = Self {
            info,
            password_file,
            session,
            join_secret_file,
            info_server,
            file_servers: Vec::new(),
            amqp: line.amqp.clone(),
        };
        for n in 1..=line.providers {
            let port = if line.port == 0 { 0 } else { line.port.checked_add(n).context("--port is too high")? };
            let data = home.join(format!("file-server-{n}"));
            fleet.file_servers.push(FileServer { data, address: (loopback, port).into(), running: None });
            fleet.start_file_server(usize::from(n - 1)).await?;
        }
        Ok(fleet)
    }

    /// Starts a file server, or starts it again on the data and the port it had.
    async fn start_file_server(&mut self, n: usize) -> anyhow::Result<()> {
        let server = self.file_servers.get_mut(n).context("there is no such file server")?;
        let settings = [
            ("--listen", server.address.to_string()),
            ("--data", server.data.display().to_string()),
            ("--zone", "local".to_owned()),
            ("--info", self.info.to_string()),
            ("--join-secret-file", self.join_secret_file.display().to_string()),
        ];
        let settings = settings.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]).collect();
        let mut config: file_server::config::Config = parsed(settings)?;
        config.upstream.amqp = self.amqp.clone();
        let app = file_server::App::build(config).await.with_context(port_hint)?;
        server.address = app.local_addr();
        let shutdown = Shutdown::new();
        server.running = Some(Running { task: tokio::spawn(app.run(shutdown.clone())), shutdown });
        Ok(())
    }

    /// Drops the file server on `port` in the middle of whatever it is doing.
    pub(crate) async fn drop_file_server(&mut self, port: Option<u16>) -> anyhow::Result<()> {
        let server = self.file_servers.iter_mut().find(|server| Some(server.address.port()) == port);
        match server.and_then(|server| server.running.take()) {
            None => Ok(()),
            Some(running) => {
                running.shutdown.abort();
                running.task.await?
            }
        }
    }

    /// Starts whatever was dropped; whether there was anything.
    pub(crate) async fn restart_stopped(&mut self) -> anyhow::Result<bool> {
        let stopped: Vec<usize> =
            (0..).zip(&self.file_servers).filter(|(_, server)| server.running.is_none()).map(|(n, _)| n).collect();
        for n in &stopped {
            self.start_file_server(*n).await?;
        }
        Ok(!stopped.is_empty())
    }

    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.file_servers.iter().map(|server| server.address).collect()
    }

    /// Stops everything: file servers first, so that they can say goodbye.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        let mut outcome = Ok(());
        for running in self.file_servers.into_iter().filter_map(|server| server.running).chain([self.info_server]) {
            running.shutdown.finish();
            let ended = tokio::time::timeout(Duration::from_secs(5), running.task).await;
            let ended = ended.context("a server did not stop in time").and_then(|ended| ended?);
            outcome = outcome.and(ended);
        }
        outcome
    }
}

fn port_hint() -> &'static str {
    "cannot start; choose other ports with --port, 0 for any"
}

/// A server's settings, as its own command line would read them.
fn parsed<C: clap::Args>(settings: Vec<String>) -> anyhow::Result<C> {
    // The environment is for the programs of this name, not for the servers inside this one.
    let command = C::augment_args(Command::new("server").no_binary_name(true)).mut_args(|arg| arg.env(None::<&str>));
    Ok(C::from_arg_matches(&command.try_get_matches_from(settings)?)?)
}

/// The account of whoever runs this, and a login of its own.
async fn sign_in(store: &Store, password_file: &std::path::Path) -> anyhow::Result<Session> {
    if private_file::read(password_file)?.is_none() {
        let password = Token::generate(Kind::Session).expose().get(5..25).context("a password")?.to_owned();
        private_file::write(password_file, format!("{password}\n").as_bytes())?;
    }
    let password = SecretString::from(private_file::read(password_file)?.unwrap_or_default().trim().to_owned());
    if store.credentials(ACCOUNT).await?.is_none() {
        info_server::command::add(store, ACCOUNT, Role::Admin, password.expose_secret().to_owned().into()).await?;
    }
    let account = store.credentials(ACCOUNT).await?.context("the account that was just made")?;
    ensure!(!account.disabled, "{ACCOUNT} is shut: open it with ddm-info-server user enable {ACCOUNT}");
    let (token, now) = (Token::generate(Kind::Session), Timestamp::now());
    let expires_at = now.checked_add(SESSION)?;
    let mut write = store.write().await?;
    let (token_hash, user_id) = (token.hash(), account.user_id);
    let new = NewSession { token_hash, user_id, expires_at, address: None, zone: None };
    accounts::add_session(&mut write, &new, now).await?;
    write.commit().await?;
    Ok(Session { token, expires_at })
}
