//! The work that a prompt waits for, which an interruption ends without ending the prompt.

use std::sync::{Mutex, PoisonError};

use tokio_util::sync::CancellationToken;

/// Token of the work in the foreground of a prompt.
static FOREGROUND: Mutex<Option<CancellationToken>> = Mutex::new(None);

/// Interrupts the work in the foreground. Returns false if there is none: then the interruption is for the whole process.
pub(crate) fn interrupt_foreground() -> bool {
    let foreground = FOREGROUND.lock().unwrap_or_else(PoisonError::into_inner).take();
    foreground.inspect(CancellationToken::cancel).is_some()
}

/// Work in the foreground, until this is dropped.
#[derive(Debug)]
pub(crate) struct Foreground(CancellationToken);

impl Foreground {
    /// Begins work that is also cancelled by `parent`.
    pub(crate) fn begin(parent: &CancellationToken) -> Self {
        let token = parent.child_token();
        *FOREGROUND.lock().unwrap_or_else(PoisonError::into_inner) = Some(token.clone());
        Self(token)
    }

    /// Returns the token that an interruption cancels.
    pub(crate) const fn token(&self) -> &CancellationToken {
        &self.0
    }
}

impl Drop for Foreground {
    fn drop(&mut self) {
        *FOREGROUND.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interruption_ends_the_work_in_the_foreground_once_and_nothing_else() {
        let prompt = CancellationToken::new();
        let work = Foreground::begin(&prompt);
        assert!(interrupt_foreground() && work.token().is_cancelled() && !prompt.is_cancelled());
        assert!(!interrupt_foreground(), "the next one is for the process");
        drop(work);
        let work = Foreground::begin(&prompt);
        prompt.cancel();
        assert!(work.token().is_cancelled());
        drop(work);
        assert!(!interrupt_foreground());
    }
}
