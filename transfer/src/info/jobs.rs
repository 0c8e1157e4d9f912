//! Collaborative downloads as an asker sees them.

use std::{collections::VecDeque, time::Duration};

use reqwest::{Method, Response, header::ACCEPT};
use wire::{
    JobId,
    job::{AskerProgress, Asking, FetchedChunk, JobInfo, JobList, NewJob, Reason},
};

use super::{DEADLINE, InfoError, InfoServer, Result, sse};

/// The info-server asks the origin before it answers.
const PROBE_DEADLINE: Duration = Duration::from_secs(30);
/// How long a stream may be silent; the info-server says something every 10 s.
const SILENCE: Duration = Duration::from_secs(25);

/// What a job's stream says.
#[derive(Debug, Clone, PartialEq)]
pub enum JobEvent {
    /// How the job is now.
    Job(Box<JobInfo>),
    /// Chunks that were fetched, or whose holder changed.
    Chunks(Vec<FetchedChunk>),
}

impl InfoError {
    /// The class of what is wrong with the origin, if that is why a job was refused.
    pub fn reason(&self) -> Option<Reason> {
        let Self::Refused(problem) = self else { return None };
        serde_json::from_value(problem.extra.get("reason")?.clone()).ok()
    }

    /// Whether one's wish for a job was taken back before, by oneself or for the whole account.
    pub fn has_left(&self) -> bool {
        matches!(self, Self::Refused(problem) if problem.kind == "urn:ddm:problem:asker-left")
    }
}

impl InfoServer {
    /// Asks for a job, or joins the one that there is.
    ///
    /// # Errors
    /// [`InfoError`]; status 422 with an [`InfoError::reason`] when the origin does not give what is asked for.
    pub async fn ask_for_job(&self, job: &NewJob) -> Result<JobInfo> {
        self.ask(self.request(Method::POST, "v1/jobs").query(&self.asking()).timeout(PROBE_DEADLINE).json(job)).await
    }

    /// One page of the jobs that one asked for.
    ///
    /// # Errors
    /// [`InfoError`].
    pub async fn jobs(&self, limit: u32, cursor: Option<&str>) -> Result<JobList> {
        let request = self.request(Method::GET, "v1/jobs").query(&[("limit", limit)]);
        self.ask(match cursor {
            Some(cursor) => request.query(&[("cursor", cursor)]),
            None => request,
        })
        .await
    }

    /// One job.
    ///
    /// # Errors
    /// [`InfoError`]; status 404 when one did not ask for such a job.
    pub async fn job(&self, id: JobId) -> Result<JobInfo> {
        self.ask(self.request(Method::GET, &format!("v1/jobs/{id}"))).await
    }

    /// Takes one's wish back, or that of the whole account when one asks in no asker's name: the job goes on for its other
    /// askers, if there are any.
    ///
    /// # Errors
    /// [`InfoError`].
    pub async fn leave_job(&self, id: JobId) -> Result<()> {
        self.send(self.request(Method::DELETE, &format!("v1/jobs/{id}")).query(&self.asking())).await.map(drop)
    }

    /// Tells what one has of a job's file, and that one still wants the rest.
    ///
    /// # Errors
    /// [`InfoError`].
    pub async fn tell_progress(&self, id: JobId, progress: &AskerProgress) -> Result<()> {
        let request = self.request(Method::PUT, &format!("v1/jobs/{id}/progress")).query(&self.asking());
        self.send(request.json(progress)).await.map(drop)
    }

    /// Opens the stream of a job.
    ///
    /// # Errors
    /// [`InfoError`].
    pub async fn job_events(&self, id: JobId) -> Result<JobEvents> {
        // Its answer has no end: only its beginning has a deadline, and each part of it.
        let request = self.unbounded(Method::GET, &format!("v1/jobs/{id}/events")).query(&self.asking());
        let request = request.header(ACCEPT, "text/event-stream");
        let answer = tokio::time::timeout(DEADLINE, request.send()).await.map_err(|_| self.silent())?;
        let answer = answer.map_err(|error| self.unreachable(&error))?;
        if !answer.status().is_success() {
            let read = tokio::time::timeout(DEADLINE, self.judge(answer)).await.map_err(|_| self.silent())?;
            let read = read.map_err(|error| self.unreachable(&error))?;
            return Err(read.err().unwrap_or_else(|| self.silent()));
        }
        Ok(JobEvents { info: self.clone(), answer, parser: sse::Parser::default(), ready: VecDeque::new() })
    }

    const fn asking(&self) -> Asking {
        Asking { asker: self.asker }
    }

    fn silent(&self) -> InfoError {
        InfoError::Unreachable { base: self.base.clone(), reason: "it says nothing".to_owned() }
    }
}

/// An open stream of a job.
#[derive(Debug)]
pub struct JobEvents {
    info: InfoServer,
    answer: Response,
    parser: sse::Parser,
    ready: VecDeque<sse::Event>,
}

impl JobEvents {
    /// The next event; none when the stream ended. May be dropped and called again.
    ///
    /// # Errors
    /// [`InfoError`]; the stream is of no use any more.
    pub async fn next(&mut self) -> Result<Option<JobEvent>> {
        loop {
            while let Some(event) = self.ready.pop_front() {
                if let Some(event) = self.read(&event)? {
                    return Ok(Some(event));
                }
            }
            let part = tokio::time::timeout(SILENCE, self.answer.chunk()).await.map_err(|_| self.info.silent())?;
            let Some(part) = part.map_err(|error| self.info.unreachable(&error))? else { return Ok(None) };
            let events = self.parser.push(&part).map_err(|error| self.info.unusable(&error.to_string()))?;
            self.ready.extend(events);
        }
    }

    /// Events of a kind that is not known are for later versions.
    fn read(&self, event: &sse::Event) -> Result<Option<JobEvent>> {
        let unusable = |error: serde_json::Error| self.info.unusable(&error.to_string());
        Ok(match event.kind.as_str() {
            "job" => Some(JobEvent::Job(serde_json::from_str(&event.data).map_err(unusable)?)),
            "chunks" => Some(JobEvent::Chunks(serde_json::from_str(&event.data).map_err(unusable)?)),
            _ => None,
        })
    }
}
