//! Dispatch: one file per command.

use anyhow::{Context as _, bail};
use futures::future::BoxFuture;
use wire::{JobId, Zone};

use crate::{
    cli::{self, Command, JobsCommand, SessionsCommand, UrlSettings},
    conclusion::conclude,
    context::Context,
    entry_ref::EntryRef,
    exit::Exit,
    lookup::{self, Scope},
    text,
};

mod batch;
mod drain;
mod fetch;
pub(crate) mod file_directory;
pub mod get;
mod info;
mod jobs;
mod known_zones;
mod list;
mod login;
mod logout;
mod metalink;
mod open;
mod policy;
mod preheat;
pub mod publish;
mod remove;
mod rename;
mod replicas;
mod servers;
mod sessions;
mod targets;
mod users;
mod verify;
mod watch;

/// Runs a command and prints its error.
pub(crate) fn run(context: &Context, command: Command) -> BoxFuture<'_, Exit> {
    Box::pin(async move { conclude(context, dispatch(context, command).await) })
}

async fn dispatch(context: &Context, command: Command) -> anyhow::Result<Exit> {
    let handles_cancellation = command.handles_cancellation();
    let zones = zones_of(context, &command);
    if !zones.is_empty() {
        known_zones::warn_of_unknown(context, &context.info_server()?, &zones).await;
    }
    let running = Box::pin(run_to_end(context, command));
    if handles_cancellation {
        return running.await;
    }
    context.cancel.run_until_cancelled(running).await.unwrap_or(Ok(Exit::Interrupted))
}

/// Returns the zones that a command was given, if a mistyped one would go unnoticed.
fn zones_of(context: &Context, command: &Command) -> Vec<Zone> {
    let own = context.common.zone.iter();
    match command {
        Command::Info { .. } | Command::Metalink(_) | Command::Verify(_) => own.cloned().collect(),
        Command::Fetch(fetch) if fetch.url.settings.direct => Vec::new(),
        Command::Fetch(fetch) => with_worker_zones(own, &fetch.url.settings),
        Command::Get(get) => with_worker_zones(own, &get.url.settings),
        Command::Open(open) => with_worker_zones(own, &open.settings),
        Command::Publish(publish) => own.chain(publish.zones.iter().flatten()).cloned().collect(),
        Command::Policy(policy) => own.chain(policy.zones.iter().flatten()).cloned().collect(),
        _ => Vec::new(),
    }
}

fn with_worker_zones<'a>(own: impl Iterator<Item = &'a Zone>, settings: &'a UrlSettings) -> Vec<Zone> {
    own.chain(settings.worker_zones.iter().flatten()).cloned().collect()
}

async fn run_to_end(context: &Context, command: Command) -> anyhow::Result<Exit> {
    match command {
        Command::Get(get) => return targets::run(context, &get).await,
        Command::Fetch(fetch) => return fetch::run(context, &fetch).await,
        Command::Open(open) => return open::run(context, &open).await,
        Command::Publish(publish) => return publish::run(context, &publish).await,
        Command::Preheat(preheat) => return preheat::run(context, &preheat).await,
        Command::Drain(drain) => return drain::run(context, &drain).await,
        Command::Policy(policy) => return policy::run(context, &policy).await,
        Command::Verify(verify) => return verify::run(context, &verify).await,
        Command::Watch(watch) => return watch::run(context, &watch).await,
        Command::Users(users) => return users::run(context, &users).await,
        Command::Rename(rename) => {
            rename::run(context, lookup::published(context, &rename.file).await?, &rename.name).await?;
        }
        Command::Login { email } => return login::run(context, email).await,
        Command::Shell => bail!("a prompt cannot be opened from here"),
        Command::Jobs(jobs) => match jobs.command {
            None | Some(JobsCommand::List) => jobs::list(context).await?,
            Some(JobsCommand::Show { job }) => jobs::show(context, job_id(context, &job).await?).await?,
            Some(JobsCommand::Cancel { job }) => jobs::cancel(context, job_id(context, &job).await?).await?,
        },
        Command::List(list) => list::run(context, &list).await?,
        Command::Info { file } => info::run(context, lookup::published(context, &file).await?).await?,
        Command::Metalink(metalink) => metalink::run(context, &metalink).await?,
        // A file that is removed must be named unmistakably: unfinished uploads count as well.
        Command::Remove { file } => {
            remove::run(context, lookup::file(&context.info_server()?, &file, Scope::Any).await?).await?
        }
        Command::Replicas { file } => replicas::run(context, lookup::published(context, &file).await?).await?,
        Command::Servers => servers::run(context).await?,
        Command::Logout => logout::run(context).await?,
        Command::Sessions(sessions) => match sessions.command {
            Some(SessionsCommand::Close { session }) => sessions::close(context, &session).await?,
            None if sessions.others => sessions::close_others(context).await?,
            None => sessions::list(context).await?,
        },
        Command::Completions { shell } => cli::print_completions(shell),
        Command::Man { folder } => cli::write_man_pages(&folder)
            .with_context(|| format!("cannot write the manual pages to {}", text::path(&folder)))?,
    }
    Ok(Exit::Done)
}

/// Returns the id of the job that a user named.
async fn job_id(context: &Context, job: &EntryRef) -> anyhow::Result<JobId> {
    lookup::job(&context.info_server()?, job).await
}
