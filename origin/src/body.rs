//! The bytes of an answer: as many as were promised, and at a speed that comes to an end.

use std::time::Duration;

use bytes::Bytes;
use reqwest::Response;
use tokio::time::{Instant, timeout};

use crate::{Fault, Limits};

/// The bytes of an answer, as they arrive.
#[derive(Debug)]
pub struct Body {
    response: Option<Response>,
    left: Option<u64>,
    pace: Pace,
}

impl Body {
    pub(crate) fn new(response: Response, left: Option<u64>, limits: Limits) -> Self {
        Self { response: Some(response), left, pace: Pace::new(limits) }
    }

    pub(crate) fn empty() -> Self {
        Self { response: None, left: Some(0), pace: Pace::new(Limits::default()) }
    }

    /// Bytes that are still to come, if that is known.
    pub const fn left(&self) -> Option<u64> {
        self.left
    }

    /// The next bytes; `None` when all have come. What it was waiting for is not lost when it is dropped.
    ///
    /// # Errors
    /// When the connection breaks, when more or less comes than was promised, or when it comes too slowly.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Fault> {
        loop {
            let Some(response) = &mut self.response else { return Ok(None) };
            let begun = Instant::now();
            let idle = self.pace.limits.idle;
            let part = timeout(idle, response.chunk()).await;
            let part = part.map_err(|_| Fault::unreachable(format!("nothing came for {idle:?}")))??;
            let Some(part) = part else { return self.end() };
            self.pace.took(begun.elapsed(), part.len())?;
            if part.is_empty() {
                continue;
            }
            if let Some(left) = &mut self.left {
                let len = u64::try_from(part.len()).unwrap_or(u64::MAX);
                *left = left.checked_sub(len).ok_or_else(|| Fault::garbled("the body is longer than it should be"))?;
            }
            return Ok(Some(part));
        }
    }

    fn end(&mut self) -> Result<Option<Bytes>, Fault> {
        self.response = None;
        match self.left {
            Some(left) if left > 0 => Err(Fault::unreachable(format!("the body ended {left} bytes early"))),
            _ => Ok(None),
        }
    }
}

/// The speed of a body over a window of time. Only time that was spent waiting for the origin counts: whoever takes the bytes
/// may be slow.
#[derive(Debug)]
struct Pace {
    limits: Limits,
    waited: Duration,
    bytes: u64,
}

impl Pace {
    const fn new(limits: Limits) -> Self {
        Self { limits, waited: Duration::ZERO, bytes: 0 }
    }

    fn took(&mut self, waited: Duration, bytes: usize) -> Result<(), Fault> {
        self.waited += waited;
        self.bytes = self.bytes.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
        if self.waited < self.limits.window {
            return Ok(());
        }
        let least = self.limits.floor.saturating_mul(self.waited.as_secs().max(1));
        if self.bytes < least {
            let (bytes, waited) = (self.bytes, self.waited);
            return Err(Fault::unreachable(format!("too slow: {bytes} bytes in {waited:?}")));
        }
        (self.waited, self.bytes) = (Duration::ZERO, 0);
        Ok(())
    }
}
