//! hyper's timer for the wait for a request, on one tokio timer for each connection.
//!
//! hyper asks for a new wait with every request. A tokio timer for each of them would be put into the runtime's timer wheel and
//! taken out again for every request. Here the connection's one timer stays in the wheel: when it fires before the deadline of
//! the present wait, it is set to that deadline.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use hyper::rt;
use tokio::time::{Sleep, sleep};

/// Timer of one connection.
#[derive(Debug, Clone)]
pub(super) struct IdleTimer(Arc<Mutex<Pin<Box<Sleep>>>>);

/// Wait until a deadline.
struct IdleWait {
    timer: IdleTimer,
    deadline: Instant,
}

impl IdleTimer {
    /// Returns a timer for waits of `limit` or longer; shorter ones cost more.
    pub(super) fn new(limit: Duration) -> Self {
        Self(Arc::new(Mutex::new(Box::pin(sleep(limit)))))
    }

    fn poll_until(&self, deadline: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let mut sleep = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let deadline = deadline.into();
        if sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
        }
        ready!(sleep.as_mut().poll(cx));
        if sleep.deadline() >= deadline {
            return Poll::Ready(());
        }
        sleep.as_mut().reset(deadline);
        sleep.as_mut().poll(cx)
    }
}

impl rt::Timer for IdleTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn rt::Sleep>> {
        self.sleep_until(self.now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn rt::Sleep>> {
        Box::pin(IdleWait { timer: self.clone(), deadline })
    }

    fn now(&self) -> Instant {
        tokio::time::Instant::now().into()
    }
}

impl Future for IdleWait {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.timer.poll_until(self.deadline, cx)
    }
}

impl rt::Sleep for IdleWait {}

#[cfg(test)]
mod tests {
    use hyper::rt::Timer as _;
    use tokio::time::timeout;

    use super::*;

    const LIMIT_UNIT: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn each_wait_ends_at_its_own_deadline() {
        let timer = IdleTimer::new(3 * LIMIT_UNIT);
        let start = tokio::time::Instant::now();
        for (pause, limit) in
            [(LIMIT_UNIT, 3), (2 * LIMIT_UNIT, 3), (LIMIT_UNIT, 1), (7 * LIMIT_UNIT, 3), (LIMIT_UNIT, 4)]
        {
            tokio::time::sleep(pause).await;
            // A request came first: hyper drops the wait.
            assert!(timeout(LIMIT_UNIT / 2, timer.sleep(limit * LIMIT_UNIT)).await.is_err());
            let (begun, deadline) = (start.elapsed(), timer.now() + limit * LIMIT_UNIT);
            timer.sleep_until(deadline).await;
            let waited = start.elapsed() - begun;
            assert!(
                waited >= limit * LIMIT_UNIT && waited < limit * LIMIT_UNIT + LIMIT_UNIT / 100,
                "{waited:?} of {limit} s"
            );
        }
    }
}
