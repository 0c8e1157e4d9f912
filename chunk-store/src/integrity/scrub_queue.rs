//! Files that are to be verified soon, because a read of them failed.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use tokio::sync::Notify;
use wire::FileId;

/// Files to verify soon. Each is in it once, so it is bounded by the files that are stored.
#[derive(Debug, Default)]
pub struct ScrubQueue {
    /// The files, and the time before which a failed one is not tried again.
    files: Mutex<BTreeMap<FileId, Option<Instant>>>,
    added: Notify,
}

impl ScrubQueue {
    /// Adds a file. One that was deferred stays deferred.
    pub fn push(&self, id: FileId) {
        self.lock().entry(id).or_insert(None);
        self.added.notify_one();
    }

    /// Adds a file whose verification failed: the others come before it, and it is not returned until `not_before`.
    pub fn defer(&self, id: FileId, not_before: Instant) {
        self.lock().insert(id, Some(not_before));
        self.added.notify_one();
    }

    /// Takes out a file that may be verified at `now`.
    pub fn pop(&self, now: Instant) -> Option<FileId> {
        let mut files = self.lock();
        let ready = |not_before: &Option<Instant>| not_before.is_none_or(|at| at <= now);
        let next = files.iter().filter(|(_, at)| ready(at)).min_by_key(|(_, at)| **at).map(|(id, _)| *id)?;
        files.remove(&next);
        Some(next)
    }

    /// Waits until a file is added.
    pub async fn added(&self) {
        self.added.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<FileId, Option<Instant>>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_file_whose_verification_failed_waits_behind_the_others() {
        let (queue, now) = (ScrubQueue::default(), Instant::now());
        let [first, second] = [(); 2].map(|()| FileId::new());
        let later = now + Duration::from_secs(1);
        queue.push(first);
        assert_eq!(queue.pop(now), Some(first));
        queue.defer(first, later);
        // Another read of it fails meanwhile.
        queue.push(first);
        queue.push(second);
        assert_eq!((queue.pop(now), queue.pop(now)), (Some(second), None));
        queue.push(second);
        assert_eq!((queue.pop(later), queue.pop(later), queue.pop(later)), (Some(second), Some(first), None));
    }
}
