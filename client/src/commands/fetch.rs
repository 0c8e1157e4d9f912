//! Fetches a file of the web.

use std::{pin::pin, time::Duration};

use anyhow::{Context as _, bail};
use jiff::{Timestamp, Zoned};
use tokio::time;
use transfer::{
    download::DownloadError,
    info::{InfoError, InfoServer},
};
use wire::{
    AskerId, JobId,
    job::{JobInfo, JobState, NewJob, Reason},
};

use super::{Context, Exit, emit, say};
use crate::{
    cli::{Fetch, Target, Wish},
    fetch::{self, Fetched, Together, Wanted, Why},
    progress::{self, Display},
    text,
};

/// How long an interrupted command waits for the answer to what it asked for, and to taking it back.
const TAKE_BACK: Duration = Duration::from_secs(1);
/// How often a job that ended although it was wanted is asked for in all.
const AGAIN: u32 = 4;

/// Carries out `fetch`.
///
/// # Errors
/// Whatever kept the file from standing under its name; what was verified is kept for the next try.
pub(super) async fn run(context: &Context, fetch: &Fetch) -> anyhow::Result<Exit> {
    let display = Display::choose(context.common.json, fetch.target.quiet);
    shown(display, course(context, fetch, display).await)
}

/// Takes part in a job that there is already.
///
/// # Errors
/// As [`run`].
pub(super) async fn join(context: &Context, id: JobId, target: &Target) -> anyhow::Result<Exit> {
    let display = Display::choose(context.common.json, target.quiet);
    let info = context.info_server()?;
    let asker = AskerId::new();
    let asked = async {
        let job = info.job(id).await.map_err(|error| super::jobs::explain(id, error))?;
        let new = NewJob {
            url: job.url,
            sha256: None,
            connections: None,
            start_at: (job.state == JobState::Scheduled).then_some(job.start_at),
            keep: job.keep,
            zones: None,
            name: None,
        };
        // An admin sees jobs of others, and would end them for all by leaving what they never joined.
        let joined = info.asking_as(asker).ask_for_job(&new).await?;
        anyhow::Ok((joined, new))
    };
    let (job, new) =
        context.cancel.run_until_cancelled(asked).await.unwrap_or(Err(DownloadError::Interrupted.into()))?;
    let wanted = Wanted { url: new.url.clone(), target: target.clone(), sha256: None, keep: new.keep, asker };
    shown(display, follow(context, &wanted, (job, new), display).await.map(Some))
}

fn shown(display: Display, outcome: anyhow::Result<Option<Fetched>>) -> anyhow::Result<Exit> {
    match outcome {
        Ok(file) => {
            file.iter().for_each(|file| progress::fetched(display, file));
            Ok(Exit::Done)
        }
        Err(error) if matches!(error.downcast_ref(), Some(DownloadError::Interrupted)) => {
            progress::interrupted(display);
            Ok(Exit::Interrupted)
        }
        Err(error) => Err(error),
    }
}

/// Fetches it one way or another; nothing when it is left to the servers to fetch it later.
async fn course(context: &Context, asked: &Fetch, display: Display) -> anyhow::Result<Option<Fetched>> {
    let Fetch { url, target, sha256, wish, direct } = asked;
    let (keep, asker) = (wish.keep, AskerId::new());
    let wanted = Wanted { url: url.clone(), target: target.clone(), sha256: *sha256, keep, asker };
    // What can be refused without asking anybody is refused at once.
    super::get::place(target, &url.file_name())?;
    if *direct {
        return fetch::alone(context, &wanted, Why::here("--direct asks for that"), display).await.map(Some);
    }
    let new = new_job(asked)?;
    let info = context.info_server()?.asking_as(wanted.asker);
    let job = match ask(context, &info, &new).await? {
        Ok(job) => job,
        // Later, and kept, it can be fetched by servers alone.
        Err(error) if wish.keep || new.start_at.is_some() => return Err(error.into()),
        Err(error) => match alone_instead(&info, &error) {
            Some(why) => return fetch::alone(context, &wanted, why, display).await.map(Some),
            None => return Err(error.into()),
        },
    };
    if job.state == JobState::Scheduled && wish.keep {
        later(context, &job);
        return Ok(None);
    }
    follow(context, &wanted, (job, new), display).await.map(Some)
}

/// Takes a job's file, or fetches it from here alone when the job comes to nothing.
async fn follow(
    context: &Context,
    wanted: &Wanted,
    (job, again): (JobInfo, NewJob),
    display: Display,
) -> anyhow::Result<Fetched> {
    let mut job = job;
    for _ in 0..AGAIN {
        let end = if job.state == JobState::Direct {
            Together::Alone(job.reason.unwrap_or(Reason::NoRanges).into())
        } else {
            Box::pin(fetch::together(context, wanted, job, display)).await?
        };
        match end {
            Together::Whole(file) => return Ok(*file),
            Together::Alone(why) => return fetch::alone(context, wanted, why, display).await,
            Together::Again(why) => {
                progress::note(display, "again", &format!("The job ended ({why}): asking for it again"))
            }
        }
        let new = NewJob { start_at: None, ..again.clone() };
        let info = context.info_server()?.asking_as(wanted.asker);
        job = ask(context, &info, &new).await??;
    }
    bail!("the job ended {AGAIN} times although it was wanted; start again to resume")
}

/// Asks for a job. Interrupted meanwhile, it takes back what may have been heard already: else the job would go on for nobody.
async fn ask(context: &Context, info: &InfoServer, new: &NewJob) -> Result<Result<JobInfo, InfoError>, DownloadError> {
    let mut asking = pin!(info.ask_for_job(new));
    if let Some(answer) = context.cancel.run_until_cancelled(asking.as_mut()).await {
        return Ok(answer);
    }
    if let Ok(Ok(job)) = time::timeout(TAKE_BACK, asking).await
        && !new.keep
    {
        // An info-server that does not hear it misses this asker after a while.
        let _ = time::timeout(TAKE_BACK, info.leave_job(job.id)).await;
    }
    Err(DownloadError::Interrupted)
}

fn new_job(asked: &Fetch) -> anyhow::Result<NewJob> {
    let Wish { origin_connections, at, after, keep, worker_zones } = asked.wish.clone();
    let start_at = match (at, after) {
        (Some(at), _) => Some(at.resolve(&Zoned::now())?),
        (None, Some(after)) => Some(Timestamp::now().checked_add(after).context("that is too far away")?),
        (None, None) => None,
    };
    Ok(NewJob {
        url: asked.url.clone(),
        sha256: asked.sha256,
        connections: origin_connections,
        start_at,
        keep,
        zones: worker_zones,
        name: None,
    })
}

/// Why it is fetched from here alone when the info-server does not take the job; none when that makes no sense.
fn alone_instead(info: &InfoServer, error: &InfoError) -> Option<Why> {
    if let Some(reason) = error.reason() {
        return match reason {
            // Known to be wrong, wherever it is fetched.
            Reason::Changed | Reason::WrongDigest => None,
            reason => Some(reason.into()),
        };
    }
    let base = info.base().as_str().trim_end_matches('/');
    match (error, error.status()) {
        (InfoError::Unreachable { .. }, _) => Some(Why::here(format!("the info-server {base} does not answer"))),
        (_, Some(401 | 403)) => {
            Some(Why::here(format!("you are not logged in at {base}, or may not have it fetch for you")))
        }
        // An info-server of before there were jobs.
        (_, Some(404 | 405 | 501)) => Some(Why::here(format!("the info-server {base} fetches nothing from the web"))),
        (_, Some(429 | 500..=599)) | (InfoError::Unusable { .. }, _) => Some(Why::here(error.to_string())),
        _ => None,
    }
}

/// Says what will happen without this command.
fn later(context: &Context, job: &JobInfo) {
    if context.common.json {
        emit(&serde_json::json!({ "event": "scheduled", "job": job }));
        return;
    }
    let start = text::moment(job.start_at);
    say(&format!("Job {} begins at {start} and is kept when it is done. Then:", job.id));
    say(&format!("  ddm-client ddm://job/{}      takes the file", job.id));
    say(&format!("  ddm-client jobs show {}      tells how far it is", job.id));
    say(&format!("  ddm-client jobs cancel {}    gives it up", job.id));
}

/// Opens a link.
///
/// # Errors
/// When it names another info-server than the one in use, and as [`run`].
pub(super) async fn open(context: &Context, asked: &crate::cli::Open) -> anyhow::Result<Exit> {
    use crate::{cli::Get, link::Linked};
    let (link, target) = (&asked.link, asked.target.clone());
    if !link.agrees(&context.common.info) {
        // A login goes to whom its user chose, never to whom a link chose.
        bail!(
            "the link is for the info-server {}, but yours is {}: if you trust that one, log in there and name it with --info",
            link.at.as_deref().unwrap_or_default(),
            context.common.info
        );
    }
    match &link.what {
        Linked::File(file) => super::get::run(context, &Get { file: *file, target, connections: 4 }).await,
        Linked::Job(job) => join(context, *job, &target).await,
        Linked::Url(url) => {
            let wish = Wish::default();
            run(context, &Fetch { url: url.clone(), target, sha256: None, wish, direct: false }).await
        }
    }
}
