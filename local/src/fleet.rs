//! The servers of the local system: real ones, each with its own port and data folder.

use std::{io, net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::{Context as _, ensure};
use bus::Amqp;
use clap::Command;
use info_server::{
    accounts::{account::NewSession, store},
    app::App as InfoServer,
    cli::user,
    config::Config as InfoServerConfig,
    db::Database,
};
use jiff::Timestamp;
use lifecycle::{Shutdown, private_file};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::task::JoinHandle;
use url::Url;
use wire::{
    account::Role,
    catalogue::IssuedSession,
    token::{Token, TokenKind},
};

use crate::cli::{CommandLine, Home};

/// Account of the user.
pub(crate) const ACCOUNT: &str = "admin@local";
/// Time that the broker has to accept a connection.
const BROKER_TIMEOUT: Duration = Duration::from_secs(5);
const SESSION_LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);

/// Info-server and its file servers.
pub(crate) struct Fleet {
    pub(crate) info: Url,
    pub(crate) password_file: PathBuf,
    pub(crate) session: IssuedSession,
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
        // This program makes the folder around it itself.
        settings.extend(["--data".to_owned(), data.display().to_string(), "--init".to_owned()]);
        // Fewer servers than the default quorum are still enough for a trial.
        settings.extend(["--quorum".to_owned(), line.providers.min(2).to_string()]);
        settings.extend(["--replicas".to_owned(), line.providers.to_string()]);
        let mut config: InfoServerConfig = parsed(settings)?;
        config.events.amqp = line.amqp.clone();
        let app = InfoServer::build(config).await.map_err(with_port_hint)?;
        let info = format!("http://{}", app.local_addr()?).parse()?;
        let password_file = home.join("password");
        let session = sign_in(app.database(), &password_file).await?;
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

    /// Starts a file server, or restarts it on its data and port.
    async fn start_file_server(&mut self, n: usize) -> anyhow::Result<()> {
        let server = self.file_servers.get_mut(n).context("no such file server")?;
        let settings = [
            ("--listen", server.address.to_string()),
            ("--data", server.data.display().to_string()),
            ("--zone", "local".to_owned()),
            ("--info", self.info.to_string()),
            ("--join-secret-file", self.join_secret_file.display().to_string()),
        ];
        let settings = settings.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]);
        let settings = settings.chain(["--init".to_owned()]).collect();
        let mut config: file_server::config::Config = parsed(settings)?;
        config.upstream.amqp = self.amqp.clone();
        let app = file_server::App::build(config).await.map_err(with_port_hint)?;
        server.address = app.local_addr();
        let shutdown = Shutdown::new();
        server.running = Some(Running { task: tokio::spawn(app.run(shutdown.clone())), shutdown });
        Ok(())
    }

    /// Stops the file server on `port` at once, without finishing its requests.
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

    /// Restarts the stopped servers. Returns true if there were any.
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

    /// Stops all servers: the file servers first, so that they can unregister.
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

/// Adds what to do to an error of a port that another process uses.
fn with_port_hint(error: anyhow::Error) -> anyhow::Error {
    let mut causes = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    if causes.any(|cause| cause.kind() == io::ErrorKind::AddrInUse) {
        return error.context("cannot start; choose other ports with --port (0 for free ones)");
    }
    error
}

/// Checks that the broker can be reached.
///
/// # Errors
/// The broker's; the message does not contain its URL.
pub(crate) async fn check_broker(url: &SecretString) -> anyhow::Result<()> {
    let broker = Amqp::new(url.expose_secret())?;
    let checked = tokio::time::timeout(BROKER_TIMEOUT, broker.check()).await;
    checked.context("it does not answer").and_then(|checked| Ok(checked?)).context("cannot reach the broker of --amqp")
}

/// Parses settings as the server's own command line does.
fn parsed<C: clap::Args>(settings: Vec<String>) -> anyhow::Result<C> {
    // The environment variables configure the standalone servers, not those inside this program.
    let command = C::augment_args(Command::new("server").no_binary_name(true)).mut_args(|arg| arg.env(None::<&str>));
    Ok(C::from_arg_matches(&command.try_get_matches_from(settings)?)?)
}

/// Creates the account of the user if there is none, and logs in.
async fn sign_in(db: &Database, password_file: &std::path::Path) -> anyhow::Result<IssuedSession> {
    if private_file::read(password_file)?.is_none() {
        let password =
            Token::generate(TokenKind::Session).expose().get(5..25).context("cannot generate a password")?.to_owned();
        private_file::write(password_file, format!("{password}\n").as_bytes())?;
    }
    let password = SecretString::from(private_file::read(password_file)?.unwrap_or_default().trim().to_owned());
    if db.credentials(ACCOUNT).await?.is_none() {
        user::add(db, ACCOUNT, Role::Admin, password.expose_secret().to_owned().into()).await?;
    }
    let account = db.credentials(ACCOUNT).await?.context("the new account is missing")?;
    ensure!(
        !account.disabled,
        "the account {ACCOUNT} is disabled; enable it with `ddm-info-server user enable {ACCOUNT}`"
    );
    let (token, now) = (Token::generate(TokenKind::Session), Timestamp::now());
    let expires_at = now.checked_add(SESSION_LIFETIME)?;
    let mut write = db.write().await?;
    let (token_hash, user_id) = (token.hash(), account.user_id);
    let new = NewSession { token_hash, user_id, expires_at, address: None, zone: None };
    store::add_session(&mut write, &new, now).await?;
    write.commit().await?;
    Ok(IssuedSession { token, expires_at })
}
