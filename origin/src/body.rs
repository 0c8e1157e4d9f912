//! The body of a response: exactly as many bytes as were promised, at a speed that guarantees an end.

use std::time::Duration;

use bytes::Bytes;
use reqwest::Response;
use tokio::time::{Instant, timeout};
use wire::grammar::counted;

use crate::{error::OriginError, limits::Limits};

/// The bytes of a response, as they arrive.
#[derive(Debug)]
pub struct Body {
    response: Option<Response>,
    remaining: Option<u64>,
    speed: SpeedCheck,
    /// Bytes that were looked at and not taken.
    peeked: Option<Bytes>,
}

impl Body {
    pub(crate) fn new(response: Response, remaining: Option<u64>, limits: Limits) -> Self {
        Self { response: Some(response), remaining, speed: SpeedCheck::new(limits), peeked: None }
    }

    pub(crate) fn empty() -> Self {
        Self { response: None, remaining: Some(0), speed: SpeedCheck::new(Limits::default()), peeked: None }
    }

    /// Returns how many bytes are still to come, if that is known.
    pub const fn remaining(&self) -> Option<u64> {
        self.remaining
    }

    /// Returns the next bytes, or `None` at the end. Dropping the future loses no bytes.
    ///
    /// # Errors
    /// When the connection breaks, when more or fewer bytes arrive than were promised, or when they arrive too slowly.
    pub async fn next(&mut self) -> Result<Option<Bytes>, OriginError> {
        if let Some(peeked) = self.peeked.take() {
            return Ok(Some(peeked));
        }
        loop {
            let Some(response) = &mut self.response else { return Ok(None) };
            let begun = Instant::now();
            let limit = self.speed.limits.idle_timeout;
            let part = timeout(limit, response.chunk()).await;
            let part = part.map_err(|_| OriginError::unreachable(format!("no byte for {limit:?}")))??;
            let Some(part) = part else { return self.end() };
            self.speed.record(begun.elapsed(), part.len())?;
            if part.is_empty() {
                continue;
            }
            if let Some(remaining) = &mut self.remaining {
                let len = u64::try_from(part.len()).unwrap_or(u64::MAX);
                let rest = remaining.checked_sub(len);
                *remaining = rest.ok_or_else(|| OriginError::garbled("the body is longer than it should be"))?;
            }
            return Ok(Some(part));
        }
    }

    /// Returns the first bytes without taking them; none of an empty body.
    pub(crate) async fn peek(&mut self) -> Result<&[u8], OriginError> {
        self.peeked = self.next().await?;
        Ok(self.peeked.as_deref().unwrap_or_default())
    }

    fn end(&mut self) -> Result<Option<Bytes>, OriginError> {
        self.response = None;
        match self.remaining {
            Some(remaining) if remaining > 0 => {
                Err(OriginError::unreachable(format!("the body ended {} early", counted(remaining, "byte"))))
            }
            _ => Ok(None),
        }
    }
}

/// The speed of a body over a window of time. Only the time spent waiting for the origin counts: the caller may consume the
/// bytes slowly.
#[derive(Debug)]
struct SpeedCheck {
    limits: Limits,
    waited: Duration,
    bytes: u64,
}

impl SpeedCheck {
    const fn new(limits: Limits) -> Self {
        Self { limits, waited: Duration::ZERO, bytes: 0 }
    }

    fn record(&mut self, waited: Duration, bytes: usize) -> Result<(), OriginError> {
        self.waited += waited;
        self.bytes = self.bytes.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
        if self.waited < self.limits.rate_window {
            return Ok(());
        }
        let least = self.limits.min_rate.saturating_mul(self.waited.as_secs().max(1));
        if self.bytes < least {
            let (bytes, waited) = (self.bytes, self.waited);
            return Err(OriginError::unreachable(format!("too slow: {} in {waited:?}", counted(bytes, "byte"))));
        }
        (self.waited, self.bytes) = (Duration::ZERO, 0);
        Ok(())
    }
}
