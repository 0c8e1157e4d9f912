//! One file per command.

use std::{
    io::{self, Write as _},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use futures::future::BoxFuture;
use origin::{Guard, Origins, Reach};
use reqwest::header::{HeaderMap, HeaderName};
use secrecy::SecretString;
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use transfer::{
    download::DownloadError,
    info::{InfoError, InfoServer},
    sink::SinkError,
    source::client_builder,
};
use wire::{TraceId, trace::HEADER};

use crate::{
    cli::{self, Command, CommandLine, Common, JobsCommand, SessionsCommand},
    session::Logins,
};

mod drain;
mod fetch;
pub mod get;
mod info;
mod jobs;
mod list;
mod login;
mod logout;
mod metalink;
mod preheat;
pub mod publish;
mod remove;
mod replicas;
mod servers;
mod sessions;

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
    /// Stands in the logs of every server that worked for this command.
    pub trace: TraceId,
}

impl Context {
    /// A client for bulk transfers.
    pub(crate) fn http(&self) -> anyhow::Result<reqwest::Client> {
        let headers = HeaderMap::from_iter([(HeaderName::from_static(HEADER), self.trace.header().parse()?)]);
        let builder = client_builder().user_agent(concat!("ddm-client/", env!("CARGO_PKG_VERSION")));
        let builder = builder.default_headers(headers);
        let builder = match &self.common.proxy {
            Some(proxy) => builder.proxy(reqwest::Proxy::all(proxy.clone())?),
            None => builder,
        };
        Ok(builder.build()?)
    }

    /// The way to files of the web. Its user may reach whatever this machine reaches.
    pub(crate) fn origins(&self) -> anyhow::Result<Origins> {
        let general = || self.common.proxy.as_ref().map(|proxy| SecretString::from(proxy.to_string()));
        let origin_proxy = self.common.origin_proxy.clone().or_else(general);
        let reach = Reach { origin_proxy, origin_ca: self.common.origin_ca.clone(), ..Reach::default() };
        Ok(Origins::new(&reach, Guard::Anywhere)?)
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
    let context = Context { common: line.common, cancel, trace: TraceId::new() };
    outcome(&context, line.command).await
}

/// Carries out a command, and says what went wrong. Boxed: a prompt's commands are commands themselves.
pub(crate) fn outcome(context: &Context, command: Command) -> BoxFuture<'_, Exit> {
    let outcome = async move {
        let outcome = carry_out(context, command).await.and_then(|exit| {
            let lost = exit == Exit::Done && LOST.load(Ordering::Relaxed);
            if lost { Err(anyhow::anyhow!("the outcome could not be written to standard output")) } else { Ok(exit) }
        });
        outcome.unwrap_or_else(|error| {
            complain(context, &error);
            Exit::Failed
        })
    };
    Box::pin(outcome)
}

async fn carry_out(context: &Context, command: Command) -> anyhow::Result<Exit> {
    let ends_by_itself = command.ends_by_itself();
    let course = async {
        match command {
            Command::Get(get) => return get::run(context, &get).await,
            Command::Publish(publish) => return publish::run(context, &publish).await,
            Command::Fetch(asked) => return fetch::run(context, &asked).await,
            Command::Open(asked) => return fetch::open(context, &asked).await,
            Command::Shell => return crate::shell::run(context).await,
            Command::Jobs(asked) => match asked.command {
                None | Some(JobsCommand::List) => jobs::list(context).await?,
                Some(JobsCommand::Show { job }) => jobs::show(context, job).await?,
                Some(JobsCommand::Cancel { job }) => jobs::cancel(context, job).await?,
            },
            Command::List(list) => list::run(context, &list).await?,
            Command::Info { file } => info::run(context, file).await?,
            Command::Metalink(asked) => metalink::run(context, &asked).await?,
            Command::Remove { file } => remove::run(context, file).await?,
            Command::Replicas { file } => replicas::run(context, file).await?,
            Command::Preheat(preheat) => return preheat::run(context, &preheat).await,
            Command::Drain(drain) => return drain::run(context, &drain).await,
            Command::Servers => servers::run(context).await?,
            Command::Login { email } => return login::run(context, email).await,
            Command::Logout => logout::run(context).await?,
            Command::Sessions(asked) => match asked.command {
                Some(SessionsCommand::Close { session }) => sessions::close(context, session).await?,
                None if asked.others => sessions::close_others(context).await?,
                None => sessions::list(context).await?,
            },
            Command::Completions { shell } => cli::print_completions(shell),
            Command::Man { folder } => cli::write_man_pages(&folder)?,
        }
        Ok(Exit::Done)
    };
    let course = Box::pin(course);
    if ends_by_itself {
        return course.await;
    }
    context.cancel.run_until_cancelled(course).await.unwrap_or(Ok(Exit::Interrupted))
}

fn complain(context: &Context, error: &anyhow::Error) {
    let (words, trace) = (words(error), context.trace);
    if context.common.json {
        emit(&serde_json::json!({ "event": "error", "message": words, "trace": trace.to_string() }));
    }
    tell(&format!("ddm-client: {words}{}", hint(error)));
    // What no server had a part in is in no log.
    if error.is::<InfoError>() || error.is::<DownloadError>() {
        tell(&format!("In the servers' logs: trace {trace}"));
    }
}

/// What went wrong, from the outermost to the innermost cause; a cause that was named already is not named again.
fn words(error: &anyhow::Error) -> String {
    error.chain().skip(1).fold(error.to_string(), |words, cause| {
        let cause = cause.to_string();
        if words.contains(&cause) { words } else { format!("{words}: {cause}") }
    })
}

/// What to type next, where the command line knows better than the engine.
fn hint(error: &anyhow::Error) -> &'static str {
    let status = error.downcast_ref::<InfoError>().and_then(InfoError::status);
    match (error.downcast_ref(), status) {
        (Some(DownloadError::Sink(SinkError::Exists(_))), _) => "\n-f replaces it, -o chooses another name",
        (Some(DownloadError::Sink(SinkError::Foreign(_))), _) => {
            "\n-f begins anew in its place, -o chooses another name"
        }
        // A log-in that fails says itself what is wrong.
        (_, Some(401)) if refused_password(error) => "",
        (Some(DownloadError::Refused { .. }), _) | (_, Some(401)) => "\nLog in first: ddm-client login",
        _ => "",
    }
}

fn refused_password(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(InfoError::Refused(problem)) if problem.kind.ends_with(":wrong-password"))
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

/// Prints a text elsewhere than on the standard streams.
type Printer = Box<dyn FnMut(String) + Send>;

/// What stands between what is printed and a line that is being typed.
static PRINTER: Mutex<Option<Printer>> = Mutex::new(None);

/// Has lines printed by whoever knows how to keep the prompt below them; none as usual again.
pub(crate) fn print_through(printer: Option<Printer>) {
    *PRINTER.lock().unwrap_or_else(PoisonError::into_inner) = printer;
}

fn printed_through(text: &str) -> bool {
    let mut printer = PRINTER.lock().unwrap_or_else(PoisonError::into_inner);
    printer.as_mut().map(|print| print(format!("{text}\n"))).is_some()
}

/// One line of a result.
pub(crate) fn say(text: &str) {
    if printed_through(text) {
        return;
    }
    let mut out = io::stdout().lock();
    note(writeln!(out, "{text}").and_then(|()| out.flush()));
}

/// One line for whoever watches; that nobody does must not end what is watched.
pub(crate) fn tell(text: &str) {
    if printed_through(text) {
        return;
    }
    let _ = writeln!(io::stderr().lock(), "{text}");
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn a_cause_is_named_once() {
        let inner = io::Error::other("no such thing");
        let path = "x".into();
        let sink = SinkError::Io { doing: "open", path, source: inner };
        assert_eq!(words(&anyhow::Error::from(DownloadError::from(sink))), "cannot open x: no such thing");
        let outer = Err::<(), _>(io::Error::other("no such thing")).context("outside").unwrap_err();
        assert_eq!(words(&outer), "outside: no such thing");
    }
}
