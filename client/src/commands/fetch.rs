//! Downloads URLs.

use std::{pin::pin, sync::Arc, time::Duration};

use anyhow::bail;
use info_client::{InfoError, UserClient};
use jiff::Timestamp;
use tokio::time;
use transfer::download::DownloadError;
use wire::{
    JobId, OriginUrl, RequesterId,
    job::{JobInfo, JobReason, JobState, NewJob},
};

use super::{batch, jobs};
use crate::{
    cli::{DownloadOptions, Fetch, JobOptions, OriginOptions, UrlOptions, UrlSettings},
    context::Context,
    destination,
    exit::{Exit, UsageError},
    output::{print, print_json},
    progress::{self, Display},
    start_time, text,
    url_download::{self, DirectReason, DownloadRequest, FetchedFile, JointOutcome},
};

/// Longest time that an interrupted command waits for the answer to its job request, and then for its withdrawal.
const WITHDRAW_TIMEOUT: Duration = Duration::from_secs(1);
/// Downloads that run at the same time.
const MAX_PARALLEL_DOWNLOADS: usize = 3;
/// Requests of a job in total, when it ends although it is wanted.
const MAX_JOB_REQUESTS: u32 = 4;

/// Runs `fetch`.
///
/// # Errors
/// Any failure before the file has its name; verified chunks are kept for the next run. Several URLs print their own errors.
pub(super) async fn run(context: &Context, fetch: &Fetch) -> anyhow::Result<Exit> {
    if let [url] = fetch.urls.as_slice() {
        return one(context, fetch, url).await;
    }
    if fetch.url.sha256.is_some() {
        return Err(UsageError::refusal("--sha256 needs exactly one URL"));
    }
    batch::check_options(&fetch.options)?;
    let mut distinct: Vec<OriginUrl> = Vec::new();
    fetch.urls.iter().for_each(|url| {
        if !distinct.contains(url) {
            distinct.push(url.clone())
        }
    });
    let fetch = Arc::new(fetch.clone());
    batch::run(context, distinct, MAX_PARALLEL_DOWNLOADS, |context, url| {
        let fetch = Arc::clone(&fetch);
        Box::pin(async move { one(&context, &fetch, &url).await })
    })
    .await
}

async fn one(context: &Context, fetch: &Fetch, url: &OriginUrl) -> anyhow::Result<Exit> {
    let display = Display::choose(context.common.json, fetch.options.quiet);
    show_outcome(display, download(context, fetch, url, display).await)
}

/// Joins an existing job. Another person chose its URL: `origin` has no credentials.
///
/// # Errors
/// As [`run`].
pub(super) async fn join(
    context: &Context,
    id: JobId,
    options: &DownloadOptions,
    origin: OriginOptions,
) -> anyhow::Result<Exit> {
    destination::refuse_standard_output(options)?;
    let display = Display::choose(context.common.json, options.quiet);
    let info = context.info_server()?;
    let requester = RequesterId::new();
    let joining = async {
        let job = info.job(id).await.map_err(|error| jobs::explain(id, error))?;
        let new = NewJob {
            url: job.url,
            sha256: None,
            connections: None,
            start_at: (job.state == JobState::Scheduled).then_some(job.start_at),
            keep: job.keep,
            zones: None,
            name: None,
        };
        // An admin sees the jobs of other accounts. Leaving one without having joined it would end it for all.
        let job = info.as_requester(requester).request_job(&new).await?;
        anyhow::Ok(RequestedJob { job, new })
    };
    let requested =
        context.cancel.run_until_cancelled(joining).await.unwrap_or(Err(DownloadError::Interrupted.into()))?;
    let NewJob { url, keep, .. } = requested.new.clone();
    let request = DownloadRequest { url, options: options.clone(), sha256: None, keep, requester, origin };
    show_outcome(display, follow(context, &request, requested, display).await.map(Some))
}

/// Job together with the request for it.
struct RequestedJob {
    job: JobInfo,
    new: NewJob,
}

fn show_outcome(display: Display, outcome: anyhow::Result<Option<FetchedFile>>) -> anyhow::Result<Exit> {
    match outcome {
        Ok(file) => {
            file.iter().for_each(|file| progress::finish_url(display, file));
            Ok(Exit::Done)
        }
        Err(error) if matches!(error.downcast_ref(), Some(DownloadError::Interrupted)) => {
            progress::interrupted(display, &progress::Reached::of(&error));
            Ok(Exit::Interrupted)
        }
        Err(error) => Err(error),
    }
}

/// Downloads the file jointly or directly. None when the job is scheduled and needs no client.
async fn download(
    context: &Context,
    fetch: &Fetch,
    url: &OriginUrl,
    display: Display,
) -> anyhow::Result<Option<FetchedFile>> {
    let Fetch { options, url: UrlOptions { sha256, job: JobOptions { keep, .. }, settings, origin }, .. } = fetch;
    let (keep, requester) = (*keep, RequesterId::new());
    let (url, options, origin) = (url.clone(), options.clone(), origin.clone());
    let request = DownloadRequest { url, options, sha256: *sha256, keep, requester, origin };
    // Local errors are reported before any request.
    destination::of_download(&request.options, &request.url.file_name())?;
    if let Some(note) = destination::note_of_new_name(&request.options, &request.url.file_name()) {
        progress::note(display, "note", &note);
    }
    let local = if settings.direct { Some("--direct or DDM_DIRECT is set") } else { request.origin.direct_reason() };
    if let Some(reason) = local {
        let reason = DirectReason::local(reason);
        return url_download::direct(context, &request, reason, display).await.map(Some);
    }
    let info = context.info_server()?.as_requester(requester);
    let start_at = start_time::start_at(&info, fetch.url.job.at, fetch.url.job.after);
    let start_at = context.cancel.run_until_cancelled(start_at).await.ok_or(DownloadError::Interrupted)??;
    let new = new_job(fetch, &request.url, start_at);
    let job = match request_job(context, &info, &new).await? {
        Ok(job) => job,
        // Only servers can fetch it later, or keep it.
        Err(error) if keep || new.start_at.is_some() => return Err(error.into()),
        Err(error) => match direct_reason(&info, &error) {
            Some(reason) => return url_download::direct(context, &request, reason, display).await.map(Some),
            None => return Err(error.into()),
        },
    };
    if job.state == JobState::Scheduled && keep {
        show_scheduled(context, &job);
        return Ok(None);
    }
    follow(context, &request, RequestedJob { job, new }, display).await.map(Some)
}

/// Downloads the file of a job, or downloads it directly when the job comes to nothing.
async fn follow(
    context: &Context,
    request: &DownloadRequest,
    requested: RequestedJob,
    display: Display,
) -> anyhow::Result<FetchedFile> {
    let RequestedJob { mut job, new } = requested;
    for _ in 0..MAX_JOB_REQUESTS {
        let outcome = if job.state == JobState::Direct {
            JointOutcome::GoDirect(job.reason.unwrap_or(JobReason::NoRanges).into())
        } else {
            Box::pin(url_download::joint(context, request, job, display)).await?
        };
        match outcome {
            JointOutcome::Complete(file) => return Ok(*file),
            JointOutcome::GoDirect(reason) => return url_download::direct(context, request, reason, display).await,
            JointOutcome::Restart(reason) => {
                progress::note(display, "again", &format!("The job ended ({reason}): requesting it again"));
            }
        }
        let new = NewJob { start_at: None, ..new.clone() };
        let info = context.info_server()?.as_requester(request.requester);
        job = request_job(context, &info, &new).await??;
    }
    bail!("the job ended {MAX_JOB_REQUESTS} times before the download was complete; start again to resume")
}

/// Requests a job. When interrupted meanwhile, withdraws a request that may have arrived: without its requester, the job would
/// run until the info-server notices.
async fn request_job(
    context: &Context,
    info: &UserClient,
    new: &NewJob,
) -> Result<Result<JobInfo, InfoError>, DownloadError> {
    let mut answer = pin!(info.request_job(new));
    if let Some(answer) = context.cancel.run_until_cancelled(answer.as_mut()).await {
        return Ok(answer);
    }
    if let Ok(Ok(job)) = time::timeout(WITHDRAW_TIMEOUT, answer).await
        && !new.keep
    {
        // If the withdrawal is lost, the info-server misses the requester's reports after a while.
        let _ = time::timeout(WITHDRAW_TIMEOUT, info.leave_job(job.id)).await;
    }
    Err(DownloadError::Interrupted)
}

fn new_job(fetch: &Fetch, url: &OriginUrl, start_at: Option<Timestamp>) -> NewJob {
    let UrlSettings { origin_connections, worker_zones, .. } = fetch.url.settings.clone();
    NewJob {
        url: url.clone(),
        sha256: fetch.url.sha256,
        connections: origin_connections,
        start_at,
        keep: fetch.url.job.keep,
        zones: worker_zones,
        name: None,
    }
}

/// Returns the reason for a direct download after the info-server did not take the job. None when a direct one cannot succeed
/// either, or the request itself is wrong.
fn direct_reason(info: &UserClient, error: &InfoError) -> Option<DirectReason> {
    if let Some(reason) = error.origin_fault() {
        return match reason {
            // The content itself is wrong.
            JobReason::Changed | JobReason::WrongDigest => None,
            reason => Some(DirectReason { retry_after: error.origin_retry_after(), ..reason.into() }),
        };
    }
    let base = info.base().as_str().trim_end_matches('/');
    match (error, error.status()) {
        (InfoError::Unreachable { .. }, _) => {
            Some(DirectReason::local(format!("the info-server {base} does not answer")))
        }
        (_, Some(401 | 403)) => {
            Some(DirectReason::local(format!("you are not logged in at {base}, or may not start jobs there")))
        }
        // An info-server of an older version.
        (_, Some(404 | 405 | 501)) => {
            Some(DirectReason::local(format!("the info-server {base} does not support URL downloads")))
        }
        (_, Some(429 | 500..=599)) | (InfoError::Unusable { .. }, _) => Some(DirectReason::local(error.to_string())),
        _ => None,
    }
}

fn show_scheduled(context: &Context, job: &JobInfo) {
    if context.common.json {
        print_json(&serde_json::json!({ "event": "scheduled", "job": job }));
        return;
    }
    let start = text::timestamp(job.start_at);
    print(&format!("Job {} starts at {start}. The servers keep the file when it is complete.", job.id));
    print("Next:");
    print(&format!("  ddm-client ddm://job/{}      downloads the file", job.id));
    print(&format!("  ddm-client jobs show {}      shows the progress", job.id));
    print(&format!("  ddm-client jobs cancel {}    cancels the job", job.id));
}
