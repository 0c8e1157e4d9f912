//! The start of jobs, and what probes of their origins come to.

use wire::{
    ChunkLayout, FileId, JobId,
    job::{Checked, JobReason, JobState, Validator},
};

use super::Coordinator;
use crate::jobs::{
    model::{
        job::Job,
        moment::Moment,
        record::{JobRecord, OriginContent},
    },
    origin_probe::{ProbeOutcome, ProbedContent},
};

/// Entries of earlier attempts that a job names.
const MAX_PREVIOUS_FILES: usize = 8;

impl Coordinator {
    /// Starts a scheduled job, whose origin was probed.
    pub(super) fn begin(&mut self, id: JobId, found: ProbedContent, seed: u64, now: Moment) {
        let Some(job) = self.jobs.get(&id).filter(|job| job.state() == JobState::Scheduled) else { return };
        let Ok(layout) = ChunkLayout::of(found.size) else { return };
        let previous = self.previous_attempt(job, &found);
        let mut record = job.record().clone();
        record.expected = record.expected.or_else(|| found.sha256.map(|sha256| (sha256, Checked::Origin)));
        if !record.name_given {
            record.name = found.name;
        }
        record.content = Some(OriginContent {
            file: FileId::new(),
            size: found.size,
            chunk_size: layout.chunk_size(),
            validator: found.validator,
            origin: Some(found.origin),
        });
        record.state = JobState::Running;
        record.start_at = record.start_at.min(now.wall);
        record.start_retry = None;
        let mut known = Vec::new();
        if let Some(previous) = previous {
            record.previous_files = files_so_far(previous.record());
            known = previous.known_digests();
        }
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let requesters = job.hand_over_requesters(now);
        *job = Job::begin(record, requesters, known, seed, now);
    }

    /// Returns the last ended attempt at the very same content by an account that asks again.
    fn previous_attempt(&self, job: &Job, found: &ProbedContent) -> Option<&Job> {
        let is_same = |previous: &&Job| {
            let record = previous.record();
            let unspoilt = !matches!(record.reason, Some(JobReason::Changed | JobReason::WrongDigest));
            let content = record.content.as_ref();
            matches!(record.state, JobState::Failed | JobState::Stopped)
                && unspoilt
                && record.url == job.record().url
                && found.validator != Validator::None
                && content.is_some_and(|it| it.size == found.size && it.validator == found.validator)
                && job
                    .requesters()
                    .accounts()
                    .any(|user| previous.requesters().had_account(user) || record.owner == user)
        };
        self.jobs().rev().find(is_same)
    }

    /// Takes in that an origin was probed: for a start, or because a worker reported that the content changed.
    pub(crate) fn note_probe(&mut self, id: JobId, outcome: ProbeOutcome, seed: u64, now: Moment) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        job.note_probed();
        if job.state() == JobState::Scheduled {
            match outcome {
                ProbeOutcome::Divisible(found) if contradicts(job.record(), &found) => {
                    job.finish(JobState::Failed, JobReason::WrongDigest, now);
                }
                ProbeOutcome::Divisible(found) => self.begin(id, found, seed, now),
                ProbeOutcome::DirectOnly(reason, _) => job.finish(JobState::Direct, reason, now),
                ProbeOutcome::Failed { reason, retry_after } => job.retry_start(reason, retry_after, now),
            }
            return;
        }
        if job.is_open() && has_changed(job.record(), &outcome) {
            job.finish(JobState::Failed, JobReason::Changed, now);
        }
    }
}

fn has_changed(record: &JobRecord, outcome: &ProbeOutcome) -> bool {
    match (outcome, &record.content) {
        (ProbeOutcome::Divisible(found), Some(content)) => {
            found.size != content.size || found.validator != content.validator
        }
        (ProbeOutcome::Divisible(_), None) => false,
        (ProbeOutcome::DirectOnly(..), _) => true,
        (ProbeOutcome::Failed { reason, .. }, _) => *reason == JobReason::TooLarge,
    }
}

/// Returns true if the origin states another SHA-256 than the expected one.
fn contradicts(record: &JobRecord, found: &ProbedContent) -> bool {
    let expected = record.expected_sha256();
    expected.is_some() && found.sha256.is_some() && expected != found.sha256
}

/// Returns the entries that the content had so far, the newest ones up to the bound.
fn files_so_far(record: &JobRecord) -> Vec<FileId> {
    let mut files = record.previous_files.clone();
    files.extend(record.content.as_ref().map(|content| content.file));
    let surplus = files.len().saturating_sub(MAX_PREVIOUS_FILES);
    files.drain(..surplus);
    files
}
