//! The embedded default, over a log in memory.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bus::{
    BusError, EventBus, EventLog, LogBatch, LongPoll, Outbound, Position, Receipt, Subscription,
    conformance::{self, Backend, Member, Recorder, message, sequence},
};
use tokio::{sync::watch, time};
use wire::{
    event::{LogHeader, Stream, bindings},
    id::Epoch,
};

use ddm_bus as bus;

/// The info-server's log: routing keys and bodies of all committed messages.
#[derive(Debug)]
struct Info {
    outbox: Arc<LongPoll>,
    epoch: Epoch,
    rows: Arc<Mutex<Vec<(String, bytes::Bytes)>>>,
    /// Polls that fail before the next one succeeds.
    failures: Arc<Mutex<usize>>,
}

impl Info {
    fn new() -> Self {
        let outbox = Arc::new(LongPoll::publisher());
        Self { outbox, epoch: Epoch::new(), rows: Arc::default(), failures: Arc::default() }
    }

    fn log(&self, subscription: &Subscription) -> ServerLog {
        ServerLog {
            keys: bindings(&subscription.server, &subscription.zone),
            epoch: self.epoch,
            rows: Arc::clone(&self.rows),
            failures: Arc::clone(&self.failures),
            news: self.outbox.published(),
        }
    }
}

impl Backend for Info {
    fn publisher(&self) -> Arc<dyn EventBus> {
        self.outbox.clone()
    }

    fn subscriber(&self, subscription: &Subscription) -> Arc<dyn EventBus> {
        Arc::new(LongPoll::follower(Arc::new(self.log(subscription))))
    }

    fn commit(&self, batch: &[Outbound]) {
        let rows = batch.iter().map(|message| (message.routing_key.clone(), message.body.clone()));
        self.rows.lock().unwrap().extend(rows);
    }

    fn unrouted_receipt(&self) -> Receipt {
        Receipt::Confirmed
    }
}

/// Log as one file server reads it.
#[derive(Debug)]
struct ServerLog {
    keys: [String; 7],
    epoch: Epoch,
    rows: Arc<Mutex<Vec<(String, bytes::Bytes)>>>,
    failures: Arc<Mutex<usize>>,
    news: watch::Receiver<u64>,
}

impl ServerLog {
    fn read(&self, position: Position) -> LogBatch {
        let rows = self.rows.lock().unwrap();
        let wanted = |body: &bytes::Bytes| sequence(body).is_some_and(|seq| seq > position.seq);
        let lines =
            rows.iter().filter(|(key, body)| self.keys.contains(key) && wanted(body)).map(|(_, body)| body.clone());
        let as_of = rows.iter().filter_map(|(_, body)| sequence(body)).max().unwrap_or(0);
        LogBatch { header: LogHeader { epoch: self.epoch, as_of, snapshot: false }, lines: lines.collect() }
    }
}

#[async_trait]
impl EventLog for ServerLog {
    async fn after(&self, position: Position, wait: Duration) -> Result<LogBatch, BusError> {
        {
            let mut failures = self.failures.lock().unwrap();
            if *failures > 0 {
                *failures -= 1;
                return Err(BusError::Log("the info-server is away".into()));
            }
        }
        let mut news = self.news.clone();
        let arrived = async {
            while self.read(position).lines.is_empty() {
                news.changed().await.unwrap();
            }
        };
        // A poll that ends without a line is an answer too.
        let wait = if position.epoch.is_none() { Duration::ZERO } else { wait };
        let _ = time::timeout(wait, arrived).await;
        Ok(self.read(position))
    }
}

#[tokio::test]
async fn the_long_poll_keeps_the_promises_of_a_bus() {
    conformance::check(&Info::new()).await;
}

#[tokio::test]
async fn an_info_server_that_is_away_is_polled_again_with_growing_pauses() {
    let info = Info::new();
    *info.failures.lock().unwrap() = 3;
    let subscription = Subscription { server: "s".parse().unwrap(), zone: "z".parse().unwrap() };
    let batch = [message(info.epoch, &Stream::All, 7)];
    info.commit(&batch);
    let started = Instant::now();
    let member = Member::join(info.subscriber(&subscription), &subscription, Recorder::acking()).await;
    member.recorder.until("the event behind the failures", |seen| seen == [7]).await;
    // 0.2 + 0.4 + 0.8 s at least.
    assert!(started.elapsed() >= Duration::from_millis(1400), "{:?}", started.elapsed());
    assert_eq!(member.bus.subscribed().borrow().error, None);
    member.leave().await;
}

#[tokio::test]
async fn a_bus_made_for_publishing_cannot_be_subscribed_to() {
    let subscription = Subscription { server: "s".parse().unwrap(), zone: "z".parse().unwrap() };
    let answer = LongPoll::publisher().subscribe(&subscription, &*Recorder::acking(), &Default::default()).await;
    assert!(matches!(answer, Err(BusError::NoLog)));
}
