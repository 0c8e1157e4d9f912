//! Rejected requests of one connection, passed from its filter to its service.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use wire::Problem;

/// State that the filter of a connection shares with its service: the rejected request, by number, and whether the filter
/// reads inside a body.
#[derive(Debug, Default)]
pub(crate) struct Rejections {
    answered: AtomicU64,
    pub(super) in_body: AtomicBool,
    rejected: Mutex<Option<(u64, Problem)>>,
}

impl Rejections {
    /// Returns the problem of the next request, if the filter rejected it. To be called once for each request.
    pub(crate) fn next(&self) -> Option<Problem> {
        let number = self.answered.fetch_add(1, Ordering::Relaxed);
        let mut rejected = self.rejected.lock().unwrap_or_else(PoisonError::into_inner);
        rejected.take_if(|(rejected, _)| *rejected == number).map(|(_, problem)| problem)
    }

    /// Returns true while a part of the present request's body has not arrived. A response sent now must close the
    /// connection.
    pub(crate) fn in_body(&self) -> bool {
        self.in_body.load(Ordering::Relaxed)
    }

    /// Stores the problem of the rejected request with this number.
    pub(super) fn store(&self, number: u64, problem: Problem) {
        *self.rejected.lock().unwrap_or_else(PoisonError::into_inner) = Some((number, problem));
    }
}
