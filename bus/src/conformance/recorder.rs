//! A handler that records the events it receives.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use tokio::{sync::watch, time};
use wire::event::Event;

use super::STEP_TIMEOUT;
use crate::{Batch, Handler, Position, Verdict};

type Rule = dyn Fn(u64, usize) -> Verdict + Send + Sync;

/// Handler that records the number of every event, dead-letters other messages, and takes its verdicts from a rule.
pub struct Recorder {
    rule: Box<Rule>,
    stuck: bool,
    seen: watch::Sender<Vec<u64>>,
    resynchronised: watch::Sender<u64>,
    position: Mutex<Position>,
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").field("seen", &self.seen.borrow().len()).finish_non_exhaustive()
    }
}

impl Recorder {
    /// Creates a recorder that acknowledges every event.
    pub fn acking() -> Arc<Self> {
        Self::with_rule(|_, _| Verdict::Ack)
    }

    /// Creates a recorder whose rule returns a verdict from an event's number and the number of earlier deliveries.
    pub fn with_rule(rule: impl Fn(u64, usize) -> Verdict + Send + Sync + 'static) -> Arc<Self> {
        Self::new(Box::new(rule), false)
    }

    /// Creates a recorder that receives a batch and never returns a verdict.
    pub fn stuck() -> Arc<Self> {
        Self::new(Box::new(|_, _| Verdict::Retry), true)
    }

    fn new(rule: Box<Rule>, stuck: bool) -> Arc<Self> {
        let (seen, resynchronised) = (watch::Sender::new(Vec::new()), watch::Sender::new(0));
        Arc::new(Self { rule, stuck, seen, resynchronised, position: Mutex::default() })
    }

    /// Returns the numbers of all events so far, in order of arrival.
    pub fn seen(&self) -> Vec<u64> {
        self.seen.borrow().clone()
    }

    /// Returns the number of calls of [`Handler::resynchronise`], as a channel.
    pub fn resynchronised(&self) -> watch::Receiver<u64> {
        self.resynchronised.subscribe()
    }

    /// Waits until the events seen so far satisfy `enough`.
    ///
    /// # Panics
    /// When that takes a minute.
    pub async fn until(&self, what: &str, enough: impl Fn(&[u64]) -> bool) {
        let mut seen = self.seen.subscribe();
        let waited = time::timeout(STEP_TIMEOUT, seen.wait_for(|seen| enough(seen))).await.is_ok();
        assert!(waited, "{what} did not arrive; seen: {:?}", self.seen());
    }

    fn verdict(&self, body: &[u8]) -> Verdict {
        let Some(seq) = sequence(body) else {
            return Verdict::DeadLetter;
        };
        let times = self.seen.borrow().iter().filter(|other| **other == seq).count();
        self.seen.send_modify(|seen| seen.push(seq));
        (self.rule)(seq, times)
    }
}

#[async_trait]
impl Handler for Recorder {
    async fn position(&self) -> Position {
        *self.position.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn apply(&self, batch: Batch) -> Vec<Verdict> {
        let verdicts: Vec<_> = batch.bodies().iter().map(|body| self.verdict(body)).collect();
        if self.stuck && !verdicts.is_empty() {
            std::future::pending::<()>().await;
        }
        if let Batch::Logged(batch) = &batch {
            let settled = verdicts.iter().take_while(|verdict| **verdict != Verdict::Retry).count();
            let mut position = self.position.lock().unwrap_or_else(PoisonError::into_inner);
            position.epoch = Some(batch.header.epoch);
            position.seq = match batch.lines.get(..settled) {
                Some(lines) if settled < batch.lines.len() => {
                    lines.iter().rev().find_map(|line| sequence(line)).unwrap_or(position.seq)
                }
                _ => batch.header.as_of,
            };
        }
        verdicts
    }

    async fn resynchronise(&self) {
        self.resynchronised.send_modify(|times| *times += 1);
    }
}

/// Returns the number of a serialised event, or `None` if the body is not an event.
pub fn sequence(body: &[u8]) -> Option<u64> {
    Event::parse(body).ok().map(|event| event.seq)
}
