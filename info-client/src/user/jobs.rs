//! Collaborative downloads, as their requester sees them.

use std::{collections::VecDeque, time::Duration};

use reqwest::{Method, Response, header::ACCEPT};
use tokio::time::timeout;
use wire::{
    JobId,
    job::{FetchedChunk, JobEventsQuery, JobInfo, JobList, NewJob, RequesterProgress, RequesterQuery},
};

use super::{UserClient, sse};
use crate::{InfoError, Result, error::root_cause, transport::Transport};

/// Deadline of a job request: the info-server probes the origin before it answers.
const PROBE_TIMEOUT: Duration = Duration::from_secs(45);
/// Longest silence of an event stream. The info-server sends a comment every 10 s.
const STREAM_SILENCE_TIMEOUT: Duration = Duration::from_secs(25);

/// Event of a job's stream.
#[derive(Debug, Clone, PartialEq)]
pub enum JobEvent {
    /// State of the whole job.
    Job(Box<JobInfo>),
    /// Chunks that were fetched, or that another server holds now.
    Chunks(Vec<FetchedChunk>),
    /// Nothing new. The info-server announces by the first one that it leaves no gap of more than a second between two events.
    Alive,
}

impl UserClient {
    /// Requests a job: starts it, or joins the running one of the same URL.
    ///
    /// # Errors
    /// [`InfoError`]; status 422 with an [`InfoError::origin_fault`] when the origin cannot serve it.
    pub async fn request_job(&self, job: &NewJob) -> Result<JobInfo> {
        let request = self.transport.request(Method::POST, "v1/jobs").query(&self.requester_query());
        self.transport.fetch(request.timeout(PROBE_TIMEOUT).json(job)).await
    }

    /// Returns one page of the jobs that the account requested.
    ///
    /// # Errors
    /// [`InfoError`].
    pub async fn jobs(&self, limit: u32, cursor: Option<&str>) -> Result<JobList> {
        let request = self.transport.request(Method::GET, "v1/jobs").query(&[("limit", limit)]);
        let request = match cursor {
            Some(cursor) => request.query(&[("cursor", cursor)]),
            None => request,
        };
        self.transport.fetch(request).await
    }

    /// Returns one job.
    ///
    /// # Errors
    /// [`InfoError`]; status 404 when the account did not request such a job.
    pub async fn job(&self, id: JobId) -> Result<JobInfo> {
        self.transport.fetch(self.transport.request(Method::GET, &format!("v1/jobs/{id}"))).await
    }

    /// Withdraws the request of this requester, or of the whole account without one. The job goes on for its other requesters.
    ///
    /// # Errors
    /// [`InfoError`].
    pub async fn leave_job(&self, id: JobId) -> Result<()> {
        let request = self.transport.request(Method::DELETE, &format!("v1/jobs/{id}"));
        self.transport.send(request.query(&self.requester_query())).await.map(drop)
    }

    /// Reports which chunks of a job's file the requester has. The report also keeps its request alive.
    ///
    /// # Errors
    /// [`InfoError`].
    pub async fn report_progress(&self, id: JobId, progress: &RequesterProgress) -> Result<()> {
        let request = self.transport.request(Method::PUT, &format!("v1/jobs/{id}/progress"));
        self.transport.send(request.query(&self.requester_query()).json(progress)).await.map(drop)
    }

    /// Opens the event stream of a job.
    ///
    /// # Errors
    /// [`InfoError`].
    pub async fn job_events(&self, id: JobId) -> Result<JobEvents> {
        self.open_events(id, false).await
    }

    /// Opens a stream that brings the present state of a job and then ends. A proxy that holds back open streams passes it on.
    ///
    /// # Errors
    /// [`InfoError`].
    pub async fn present_job_events(&self, id: JobId) -> Result<JobEvents> {
        self.open_events(id, true).await
    }

    async fn open_events(&self, id: JobId, once: bool) -> Result<JobEvents> {
        let transport = &self.transport;
        // The answer has no end: its head has a deadline, and so has each part of it.
        let request = transport.request_without_deadline(Method::GET, &format!("v1/jobs/{id}/events"));
        let query = JobEventsQuery { requester: self.requester, once };
        let request = request.query(&query).header(ACCEPT, "text/event-stream");
        let answer = timeout(transport.deadline, request.send()).await.map_err(|_| silent(transport))?;
        let answer = answer.map_err(|error| transport.unreachable(root_cause(&error)))?;
        transport.observe(&answer);
        if !answer.status().is_success() {
            let read = timeout(transport.deadline, transport.read(answer)).await.map_err(|_| silent(transport))?;
            let read = read.map_err(|error| transport.unreachable(root_cause(&error)))?;
            return Err(read.err().unwrap_or_else(|| silent(transport)));
        }
        let (parser, ready) = (sse::Parser::default(), VecDeque::new());
        Ok(JobEvents { transport: transport.clone(), answer, parser, ready })
    }

    const fn requester_query(&self) -> RequesterQuery {
        RequesterQuery { requester: self.requester }
    }
}

fn silent(transport: &Transport) -> InfoError {
    transport.unreachable("no data arrived in time")
}

/// Open event stream of a job.
#[derive(Debug)]
pub struct JobEvents {
    transport: Transport,
    answer: Response,
    parser: sse::Parser,
    ready: VecDeque<sse::Event>,
}

impl JobEvents {
    /// Returns the next event, or none at the end of the stream. Safe to cancel and to call again.
    ///
    /// # Errors
    /// [`InfoError`]; then the stream is of no further use.
    pub async fn next(&mut self) -> Result<Option<JobEvent>> {
        loop {
            while let Some(event) = self.ready.pop_front() {
                if let Some(event) = self.decode(&event)? {
                    return Ok(Some(event));
                }
            }
            let part = timeout(STREAM_SILENCE_TIMEOUT, self.answer.chunk()).await;
            let part = part.map_err(|_| silent(&self.transport))?;
            let part = part.map_err(|error| self.transport.unreachable(root_cause(&error)))?;
            let Some(part) = part else { return Ok(None) };
            self.ready.extend(self.parser.push(&part).map_err(|error| self.transport.unusable(error))?);
        }
    }

    /// Decodes an event. Those of unknown kinds belong to later versions and are skipped.
    fn decode(&self, event: &sse::Event) -> Result<Option<JobEvent>> {
        let unusable = |error: serde_json::Error| self.transport.unusable(error);
        Ok(match event.kind.as_str() {
            "job" => Some(JobEvent::Job(serde_json::from_str(&event.data).map_err(unusable)?)),
            "chunks" => Some(JobEvent::Chunks(serde_json::from_str(&event.data).map_err(unusable)?)),
            "alive" => Some(JobEvent::Alive),
            _ => None,
        })
    }
}
