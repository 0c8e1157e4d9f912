//! One file per command.

use std::{
    io::{self, Write as _},
    sync::atomic::{AtomicBool, Ordering},
};

use serde::Serialize;
use tokio_util::sync::CancellationToken;
use transfer::{info::InfoServer, source::client_builder};

use crate::{
    cli::{self, Command, CommandLine, Common},
    session::Logins,
};

pub mod get;
mod info;
mod list;
mod login;
mod logout;
pub mod publish;
mod remove;
mod servers;

/// How a command ended; its number is the process's exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// Failed; what went wrong was printed.
    Failed = 1,
    /// Interrupted by a signal; what was done so far is kept.
    Interrupted = 3,
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// What every command needs.
#[derive(Debug)]
pub struct Context {
    /// Settings of every command.
    pub common: Common,
    /// Cancelled by a signal.
    pub cancel: CancellationToken,
}

impl Context {
    /// A client for bulk transfers.
    pub(crate) fn http(&self) -> anyhow::Result<reqwest::Client> {
        let builder = client_builder().user_agent(concat!("ddm-client/", env!("CARGO_PKG_VERSION")));
        let builder = match &self.common.proxy {
            Some(proxy) => builder.proxy(reqwest::Proxy::all(proxy.clone())?),
            None => builder,
        };
        Ok(builder.build()?)
    }

    /// The info-server, with the login kept for it.
    ///
    /// # Errors
    /// When the kept logins cannot be read, or the proxy cannot be used.
    pub fn info_server(&self) -> anyhow::Result<InfoServer> {
        let session = Logins::open(&self.common)?.token(&self.common.info);
        Ok(InfoServer::new(self.common.info.clone(), self.http()?, session))
    }
}

/// Carries out a command, until it is done or `cancel` is.
pub async fn run(line: CommandLine, cancel: CancellationToken) -> Exit {
    let context = Context { common: line.common, cancel: cancel.clone() };
    let outcome = carry_out(&context, line.command).await.and_then(|exit| {
        let lost = exit == Exit::Done && LOST.load(Ordering::Relaxed);
        if lost { Err(anyhow::anyhow!("the outcome could not be written to standard output")) } else { Ok(exit) }
    });
    outcome.unwrap_or_else(|error| {
        complain(&context.common, &error);
        Exit::Failed
    })
}

async fn carry_out(context: &Context, command: Command) -> anyhow::Result<Exit> {
    let short = async {
        match command {
            Command::Get(get) => return get::run(context, &get).await,
            Command::Publish(publish) => return publish::run(context, &publish).await,
            Command::List(list) => list::run(context, &list).await?,
            Command::Info { file } => info::run(context, file).await?,
            Command::Remove { file } => remove::run(context, file).await?,
            Command::Servers => servers::run(context).await?,
            Command::Login { email } => login::run(context, email).await?,
            Command::Logout => logout::run(context).await?,
            Command::Completions { shell } => cli::print_completions(shell),
            Command::Man { folder } => cli::write_man_pages(&folder)?,
        }
        Ok(Exit::Done)
    };
    Box::pin(short).await
}

fn complain(common: &Common, error: &anyhow::Error) {
    let hint = match error.downcast_ref::<transfer::info::InfoError>().and_then(transfer::info::InfoError::status) {
        Some(401) => "\nLog in first: ddm-client login",
        _ => "",
    };
    if common.json {
        emit(&serde_json::json!({ "event": "error", "message": format!("{error:#}") }));
    }
    tell(&format!("ddm-client: {error:#}{hint}"));
}

/// Whether a result could not be written down, say because a disk is full.
static LOST: AtomicBool = AtomicBool::new(false);

/// A reader that hung up wants nothing more; anything else that keeps a result from being written is a failure.
fn note(written: io::Result<()>) {
    if written.is_err_and(|error| error.kind() != io::ErrorKind::BrokenPipe) {
        LOST.store(true, Ordering::Relaxed);
    }
}

/// One JSON object on a line of its own, at once.
pub(crate) fn emit(event: &impl Serialize) {
    let mut out = io::stdout().lock();
    let written = serde_json::to_writer(&mut out, event).map_err(io::Error::from);
    note(written.and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush()));
}

/// One line of a result.
pub(crate) fn say(text: &str) {
    let mut out = io::stdout().lock();
    note(writeln!(out, "{text}").and_then(|()| out.flush()));
}

/// One line for whoever watches; that nobody does must not end what is watched.
pub(crate) fn tell(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}
