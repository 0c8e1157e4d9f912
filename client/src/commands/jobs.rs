//! Lists, shows and cancels jobs.

use info_client::InfoError;
use wire::{
    JobId,
    grammar::counted,
    job::{JobInfo, JobState},
};

use crate::{
    context::Context,
    output::{print, print_json},
    progress::worker_line,
    text,
};

const PAGE_SIZE: u32 = 200;
/// Jobs listed at most.
const MAX_JOBS: usize = 2000;

pub(super) async fn list(context: &Context) -> anyhow::Result<()> {
    let info = context.info_server()?;
    let (mut cursor, mut count) = (None::<String>, 0);
    loop {
        let page = info.jobs(PAGE_SIZE, cursor.as_deref()).await?;
        for job in &page.jobs {
            if context.common.json {
                print_json(job);
            } else {
                if count == 0 {
                    print(&format!("{:<36}  {:<9}  {:>9}  {:>10}  NAME", "JOB", "STATE", "FETCHED", "SIZE"));
                }
                let size = job.size.map_or_else(|| "?".to_owned(), text::size);
                let (state, fetched) = (job.state.as_str(), fetched_percent(job));
                print(&format!("{}  {state:<9}  {fetched:>9}  {size:>10}  {}", job.id, job.name));
            }
            count += 1;
        }
        cursor = page.next_cursor;
        if cursor.is_none() || page.jobs.is_empty() || count >= MAX_JOBS {
            break;
        }
    }
    if count == 0 && !context.common.json {
        print("No jobs. Start one with `ddm-client URL`.");
    }
    Ok(())
}

fn fetched_percent(job: &JobInfo) -> String {
    if job.chunks == 0 {
        return String::new();
    }
    format!("{} %", text::whole_percent(job.fetched.into(), job.chunks.into()))
}

pub(super) async fn show(context: &Context, id: JobId) -> anyhow::Result<()> {
    let job = context.info_server()?.job(id).await.map_err(|error| explain(id, error))?;
    if context.common.json {
        print_json(&job);
        return Ok(());
    }
    print(&format!("job        {}", job.id));
    print(&format!("url        {}", job.url));
    print(&format!("name       {}", job.name));
    let reason = job.reason.map(|reason| format!(": {}", reason.sentence())).unwrap_or_default();
    print(&format!("state      {}{reason}", job.state.as_str()));
    if job.state == JobState::Scheduled {
        print(&format!("starts     {}", text::timestamp(job.start_at)));
        job.next_try.iter().for_each(|at| print(&format!("next try   {}", text::timestamp(*at))));
    }
    if let Some(size) = job.size {
        print(&format!("size       {} ({})", text::size(size), counted(size, "byte")));
        print(&format!("fetched    {} of {}, {}", job.fetched, counted(job.chunks, "chunk"), fetched_percent(&job)));
    }
    if let Some(sha256) = job.sha256 {
        print(&format!("sha256     {sha256}"));
    }
    if job.keep {
        let until = job.expires_at.map(|at| format!(" until {}", text::timestamp(at))).unwrap_or_default();
        print(&format!("kept       yes{until}"));
    }
    print(&format!("requesters {}", job.requesters));
    job.workers.iter().for_each(|worker| print(&format!("worker     {}", worker_line(worker))));
    Ok(())
}

pub(super) async fn cancel(context: &Context, id: JobId) -> anyhow::Result<()> {
    context.info_server()?.leave_job(id).await.map_err(|error| explain(id, error))?;
    if context.common.json {
        print_json(&serde_json::json!({ "event": "cancelled", "id": id }));
    } else {
        print(&format!("Cancelled your request for job {id}. The job stops unless others requested it too."));
    }
    Ok(())
}

/// Explains a 404: the info-server shows a job to its requesters only.
pub(super) fn explain(id: JobId, error: InfoError) -> anyhow::Error {
    if error.status() != Some(404) {
        return error.into();
    }
    anyhow::anyhow!("there is no such job, or you did not request it: {id}; download its URL instead")
}
