//! Lists, shows and cancels jobs.

use transfer::info::InfoError;
use wire::{
    JobId,
    job::{JobInfo, JobState},
};

use super::{Context, emit, say};
use crate::{progress::worker_line, text};

const PAGE: u32 = 200;
/// More jobs than anybody looks at.
const MOST: usize = 2000;

pub(super) async fn list(context: &Context) -> anyhow::Result<()> {
    let info = context.info_server()?;
    let (mut cursor, mut seen) = (None::<String>, 0);
    loop {
        let page = info.jobs(PAGE, cursor.as_deref()).await?;
        for job in &page.jobs {
            if context.common.json {
                emit(job);
            } else {
                if seen == 0 {
                    say(&format!("{:<36}  {:<9}  {:>9}  {:>10}  NAME", "JOB", "STATE", "FETCHED", "SIZE"));
                }
                let size = job.size.map_or_else(|| "?".to_owned(), text::size);
                let (state, done) = (job.state.as_str(), fetched(job));
                say(&format!("{}  {state:<9}  {done:>9}  {size:>10}  {}", job.id, job.name));
            }
            seen += 1;
        }
        cursor = page.next_cursor;
        if cursor.is_none() || page.jobs.is_empty() || seen >= MOST {
            break;
        }
    }
    if seen == 0 && !context.common.json {
        say("No jobs. Begin one with: ddm-client URL");
    }
    Ok(())
}

fn fetched(job: &JobInfo) -> String {
    if job.chunks == 0 {
        return String::new();
    }
    format!("{} %", text::whole_percent(job.fetched.into(), job.chunks.into()))
}

pub(super) async fn show(context: &Context, id: JobId) -> anyhow::Result<()> {
    let job = context.info_server()?.job(id).await.map_err(|error| explain(id, error))?;
    if context.common.json {
        emit(&job);
        return Ok(());
    }
    say(&format!("job       {}", job.id));
    say(&format!("url       {}", job.url));
    say(&format!("name      {}", job.name));
    let why = job.reason.map(|reason| format!(": {}", reason.sentence())).unwrap_or_default();
    say(&format!("state     {}{why}", job.state.as_str()));
    if job.state == JobState::Scheduled {
        say(&format!("begins    {}", text::moment(job.start_at)));
        job.next_try.iter().for_each(|at| say(&format!("again     {}", text::moment(*at))));
    }
    if let Some(size) = job.size {
        say(&format!("size      {} ({size} bytes)", text::size(size)));
        say(&format!("fetched   {} of {} chunks, {}", job.fetched, job.chunks, fetched(&job)));
    }
    if let Some(sha256) = job.sha256 {
        say(&format!("sha256    {sha256}"));
    }
    if job.keep {
        let until = job.expires_at.map(|at| format!(" until {}", text::moment(at))).unwrap_or_default();
        say(&format!("kept      yes{until}"));
    }
    say(&format!("wanted    by {}", job.askers));
    job.workers.iter().for_each(|at| say(&format!("worker    {}", worker_line(at))));
    Ok(())
}

pub(super) async fn cancel(context: &Context, id: JobId) -> anyhow::Result<()> {
    context.info_server()?.leave_job(id).await.map_err(|error| explain(id, error))?;
    if context.common.json {
        emit(&serde_json::json!({ "event": "cancelled", "id": id }));
    } else {
        say(&format!("You want job {id} no more; it ends unless others do."));
    }
    Ok(())
}

/// Nobody hears of a job who did not ask for it.
pub(super) fn explain(id: JobId, error: InfoError) -> anyhow::Error {
    if error.status() != Some(404) {
        return error.into();
    }
    anyhow::anyhow!("there is no such job, or you did not ask for it: {id}; whoever wants its file asks for its URL")
}
