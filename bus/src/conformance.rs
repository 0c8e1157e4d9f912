//! Conformance suite: the promises of every backend, tested against a real one.

mod recorder;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use tokio::{task::JoinHandle, time};
use tokio_util::sync::CancellationToken;
use wire::{
    FileId, Label,
    event::{Event, EventPayload, SCHEMA, Stream},
    id::Epoch,
};

pub use self::recorder::{Recorder, sequence};
use crate::{EventBus, Handler, MAX_BATCH, Outbound, Phase, Receipt, Subscription, Verdict};

/// Deadline of every step, generous for a busy machine.
const STEP_TIMEOUT: Duration = Duration::from_secs(60);

/// Backend under test.
pub trait Backend: Send + Sync {
    /// Returns the info-server's bus.
    fn publisher(&self) -> Arc<dyn EventBus>;
    /// Returns a file server's bus.
    fn subscriber(&self, subscription: &Subscription) -> Arc<dyn EventBus>;
    /// Commits messages, as the info-server does before it publishes them.
    fn commit(&self, batch: &[Outbound]);
    /// Returns the backend's receipt for a message without a subscriber.
    fn unrouted_receipt(&self) -> Receipt;
}

/// Runs the whole suite.
///
/// # Panics
/// When the backend breaks a promise.
pub async fn check(backend: &dyn Backend) {
    let suite = Suite::start(backend);
    matching_subscribers_get_every_message_in_order(&suite).await;
    a_subscriber_that_was_away_gets_what_it_missed(&suite).await;
    a_message_to_retry_comes_again(&suite).await;
    a_dead_lettered_message_does_not_come_again_and_blocks_no_other(&suite).await;
    messages_that_a_crashed_subscriber_had_not_settled_come_again(&suite).await;
    large_batches_keep_their_order(&suite).await;
    a_message_without_a_subscriber_gets_that_receipt(&suite).await;
    a_shutdown_ends_everything_promptly(suite).await;
}

async fn matching_subscribers_get_every_message_in_order(suite: &Suite<'_>) {
    let (a, b) = (label("order-a"), label("order-b"));
    let one = suite.join(&suite.subscription("order-1", &a), Recorder::acking()).await;
    let two = suite.join(&suite.subscription("order-2", &a), Recorder::acking()).await;
    let far = suite.join(&suite.subscription("order-3", &b), Recorder::acking()).await;
    let kinds = [Stream::Zone(a), Stream::Zone(b), Stream::All, Stream::Server(label("order-2"))];
    let batch = suite.messages(kinds.iter().cycle().take(40));
    suite.publish(&batch).await;
    let of = |kinds: &[usize]| -> Vec<u64> {
        batch
            .iter()
            .enumerate()
            .filter(|(at, _)| kinds.contains(&(at % 4)))
            .map(|(_, message)| number(message))
            .collect()
    };
    for (member, wanted) in [(one, of(&[0, 2])), (two, of(&[0, 2, 3])), (far, of(&[1, 2]))] {
        member.recorder.until("all of its own", |seen| wanted.iter().all(|seq| seen.contains(seq))).await;
        assert_eq!(member.seen_of(&batch), wanted, "each server gets its own messages, in order");
        member.leave().await;
    }
}

async fn a_subscriber_that_was_away_gets_what_it_missed(suite: &Suite<'_>) {
    let subscription = suite.subscription("away", &label("away"));
    let member = suite.join(&subscription, Recorder::acking()).await;
    let recorder = member.leave().await;
    let batch = suite.messages([Stream::Zone(label("away"))].iter().cycle().take(10));
    suite.publish(&batch).await;
    let member = suite.join(&subscription, recorder).await;
    member.recorder.until("what was published meanwhile", |seen| has_all(seen, &batch)).await;
    member.leave().await;
}

async fn a_message_to_retry_comes_again(suite: &Suite<'_>) {
    let zone = label("retry");
    let batch = suite.messages([Stream::Zone(zone.clone())].iter().cycle().take(5));
    let busy = batch.get(2).map(number).expect("the third of five");
    let recorder = Recorder::with_rule(move |seq, times| match times {
        0 if seq == busy => Verdict::Retry,
        _ => Verdict::Ack,
    });
    let member = suite.join(&suite.subscription("retry", &zone), recorder).await;
    suite.publish(&batch).await;
    let twice = |seen: &[u64]| seen.iter().filter(|seq| **seq == busy).count() > 1;
    member.recorder.until("the retried one again, and all others", |seen| has_all(seen, &batch) && twice(seen)).await;
    member.leave().await;
}

async fn a_dead_lettered_message_does_not_come_again_and_blocks_no_other(suite: &Suite<'_>) {
    let zone = label("dead-letter");
    let batch = suite.messages([Stream::Zone(zone.clone())].iter().cycle().take(5));
    let poison = batch.get(1).map(number).expect("the second of five");
    let recorder = Recorder::with_rule(move |seq, _| if seq == poison { Verdict::DeadLetter } else { Verdict::Ack });
    let subscription = suite.subscription("dead-letter", &zone);
    let member = suite.join(&subscription, recorder).await;
    suite.publish(&batch).await;
    member.recorder.until("the rest of the batch", |seen| has_all(seen, &batch)).await;
    // A message that was not settled would come again now.
    let recorder = member.leave().await;
    let member = suite.join(&subscription, recorder).await;
    let later = suite.messages([Stream::Zone(zone)].iter());
    suite.publish(&later).await;
    member.recorder.until("the message after", |seen| has_all(seen, &later)).await;
    let all = [batch, later].concat();
    assert_eq!(member.seen_of(&all), numbers(&all), "each exactly once");
    member.leave().await;
}

async fn messages_that_a_crashed_subscriber_had_not_settled_come_again(suite: &Suite<'_>) {
    let zone = label("crash");
    let subscription = suite.subscription("crash", &zone);
    let stuck = suite.join(&subscription, Recorder::stuck()).await;
    let batch = suite.messages([Stream::Zone(zone)].iter().cycle().take(10));
    suite.publish(&batch).await;
    stuck.recorder.until("a batch to be stuck with", |seen| !seen.is_empty()).await;
    stuck.crash().await;
    let member = suite.join(&subscription, Recorder::acking()).await;
    member.recorder.until("what was not settled", |seen| has_all(seen, &batch)).await;
    member.leave().await;
}

async fn large_batches_keep_their_order(suite: &Suite<'_>) {
    let zone = label("large");
    let member = suite.join(&suite.subscription("large", &zone), Recorder::acking()).await;
    let batch = suite.messages([Stream::Zone(zone)].iter().cycle().take(3 * MAX_BATCH + 1));
    suite.publish(&batch).await;
    member.recorder.until("the whole batch", |seen| has_all(seen, &batch)).await;
    assert_eq!(member.seen_of(&batch), numbers(&batch));
    member.leave().await;
}

async fn a_message_without_a_subscriber_gets_that_receipt(suite: &Suite<'_>) {
    let batch = suite.messages([Stream::Zone(label("nowhere"))].iter());
    assert_eq!(suite.publish(&batch).await, [suite.backend.unrouted_receipt()]);
    assert!(suite.publish(&[]).await.is_empty());
}

async fn a_shutdown_ends_everything_promptly(suite: Suite<'_>) {
    let member = suite.join(&suite.subscription("end", &label("end")), Recorder::acking()).await;
    let state = member.bus.subscribed();
    let asked = time::Instant::now();
    member.leave().await;
    suite.shutdown.cancel();
    suite.publisher.await.expect("the publishing side ends by itself");
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    assert_eq!(state.borrow().phase, Phase::Idle);
}

struct Suite<'a> {
    backend: &'a dyn Backend,
    bus: Arc<dyn EventBus>,
    shutdown: CancellationToken,
    publisher: JoinHandle<()>,
    epoch: Epoch,
    seq: AtomicU64,
}

impl<'a> Suite<'a> {
    fn start(backend: &'a dyn Backend) -> Self {
        let (bus, shutdown) = (backend.publisher(), CancellationToken::new());
        let (running, end) = (Arc::clone(&bus), shutdown.clone());
        let publisher = tokio::spawn(async move { running.run(end).await });
        Self { backend, bus, shutdown, publisher, epoch: Epoch::new(), seq: AtomicU64::new(0) }
    }

    fn subscription(&self, server: &str, zone: &Label) -> Subscription {
        Subscription { server: label(server), zone: zone.clone() }
    }

    fn messages<'s>(&self, streams: impl Iterator<Item = &'s Stream>) -> Vec<Outbound> {
        streams.map(|stream| message(self.epoch, stream, self.seq.fetch_add(1, Ordering::Relaxed) + 1)).collect()
    }

    async fn publish(&self, batch: &[Outbound]) -> Vec<Receipt> {
        self.backend.commit(batch);
        self.bus.publish(batch).await.expect("the transport is up")
    }

    async fn join(&self, subscription: &Subscription, recorder: Arc<Recorder>) -> Member {
        Member::join(self.backend.subscriber(subscription), subscription, recorder).await
    }
}

/// Running subscriber.
#[derive(Debug)]
pub struct Member {
    /// Record of the events it received.
    pub recorder: Arc<Recorder>,
    /// Bus that delivers its messages.
    pub bus: Arc<dyn EventBus>,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Member {
    /// Subscribes, and waits until messages are being delivered.
    ///
    /// # Panics
    /// When that takes a minute.
    pub async fn join(bus: Arc<dyn EventBus>, subscription: &Subscription, recorder: Arc<Recorder>) -> Self {
        let shutdown = CancellationToken::new();
        let (end, handler, running, subscription) =
            (shutdown.clone(), Arc::clone(&recorder), Arc::clone(&bus), subscription.clone());
        let task = tokio::spawn(async move {
            let handler: &dyn Handler = &*handler;
            running.subscribe(&subscription, handler, &end).await.expect("a subscription that can be made");
        });
        let mut state = bus.subscribed();
        let connected = state.wait_for(|state| state.phase == Phase::Connected);
        time::timeout(STEP_TIMEOUT, connected).await.expect("subscribed in time").expect("the bus lives");
        Self { recorder, bus, shutdown, task }
    }

    /// Shuts the subscriber down in good order and returns its recorder.
    ///
    /// # Panics
    /// When the subscriber does not end within a minute.
    pub async fn leave(self) -> Arc<Recorder> {
        self.shutdown.cancel();
        time::timeout(STEP_TIMEOUT, self.task).await.expect("ends in time").expect("ends well");
        self.recorder
    }

    /// Returns those of `batch` that the subscriber received, in order of arrival.
    fn seen_of(&self, batch: &[Outbound]) -> Vec<u64> {
        let mut seen = self.recorder.seen();
        seen.retain(|seq| batch.iter().any(|message| number(message) == *seq));
        seen
    }

    async fn crash(self) {
        self.task.abort();
        assert!(self.task.await.is_err_and(|error| error.is_cancelled()), "dropped midway");
    }
}

/// Creates an event of `stream` with the number `seq`.
///
/// # Panics
/// Never: events can be serialised.
pub fn message(epoch: Epoch, stream: &Stream, seq: u64) -> Outbound {
    let file = FileId::new();
    let payload = match stream {
        Stream::Zone(_) => EventPayload::TokenGranted { grants: Vec::new() },
        Stream::Server(_) => EventPayload::ReplicaAssigned { file },
        Stream::All => EventPayload::FileDeleted { file },
    };
    let routing_key = payload.routing_key(stream);
    let event =
        Event { schema: SCHEMA, epoch, stream: stream.clone(), prev: 0, seq, at: Timestamp::UNIX_EPOCH, payload };
    let body = serde_json::to_vec(&event).expect("an event is JSON").into();
    Outbound { id: format!("{epoch}/{seq}"), routing_key, body }
}

fn label(text: &str) -> Label {
    text.parse().expect("a label")
}

fn number(message: &Outbound) -> u64 {
    sequence(&message.body).expect("an event of the suite's own")
}

fn numbers(batch: &[Outbound]) -> Vec<u64> {
    batch.iter().map(number).collect()
}

fn has_all(seen: &[u64], batch: &[Outbound]) -> bool {
    batch.iter().all(|message| seen.contains(&number(message)))
}
