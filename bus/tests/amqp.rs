//! The bus on a real RabbitMQ node.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

#[path = "amqp/dead_letters.rs"]
mod dead_letters;
#[path = "amqp/outages.rs"]
mod outages;

use std::{sync::Arc, time::Duration};

use bus::{
    Amqp, BusError, EventBus, Outbound, Phase, Receipt, Subscription,
    conformance::{self, Backend, Member, Recorder, message},
};
use ddm_bus as bus;
use lapin::{
    Channel, Connection, ConnectionProperties,
    options::{BasicGetOptions, QueueDeclareOptions},
    types::FieldTable,
};
use testkit::rabbitmq::{RabbitMq, VirtualHost};
use tokio::{task::JoinHandle, time};
use tokio_util::sync::CancellationToken;
use wire::{event::Stream, id::Epoch};

struct Broker(String);

impl Backend for Broker {
    fn publisher(&self) -> Arc<dyn EventBus> {
        Arc::new(Amqp::new(&self.0).unwrap())
    }

    fn subscriber(&self, _: &Subscription) -> Arc<dyn EventBus> {
        self.publisher()
    }

    fn commit(&self, _: &[Outbound]) {}

    fn unrouted_receipt(&self) -> Receipt {
        Receipt::Unrouted
    }
}

/// A publisher at work, and events for the zone `z`.
struct Publisher {
    bus: Arc<Amqp>,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
    epoch: Epoch,
}

impl Publisher {
    fn start(uri: &str) -> Self {
        let (bus, shutdown) = (Arc::new(Amqp::new(uri).unwrap()), CancellationToken::new());
        let (running, end) = (Arc::clone(&bus), shutdown.clone());
        let task = tokio::spawn(async move { running.run(end).await });
        Self { bus, shutdown, task, epoch: Epoch::new() }
    }

    fn messages(&self, numbers: std::ops::RangeInclusive<u64>) -> Vec<Outbound> {
        numbers.map(|seq| message(self.epoch, &Stream::Zone("z".parse().unwrap()), seq)).collect()
    }

    /// Publishes a batch again until all of it is confirmed, as the relay does.
    async fn insist(&self, batch: &[Outbound]) -> Vec<Receipt> {
        let publish = async {
            loop {
                match self.bus.publish(batch).await {
                    Ok(receipts) => break receipts,
                    Err(_) => time::sleep(Duration::from_millis(50)).await,
                }
            }
        };
        time::timeout(Duration::from_secs(60), publish).await.expect("published in time")
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap();
    }
}

fn subscription(server: &str) -> Subscription {
    Subscription { server: server.parse().unwrap(), zone: "z".parse().unwrap() }
}

async fn join(uri: &str, server: &str) -> Member {
    Member::join(Arc::new(Amqp::new(uri).unwrap()), &subscription(server), Recorder::acking()).await
}

/// The broker without the bus.
async fn raw(uri: &str) -> (Connection, Channel) {
    let connection = Connection::connect(uri, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    (connection, channel)
}

#[tokio::test]
async fn rabbitmq_keeps_the_promises_of_a_bus() {
    let uri = VirtualHost::new().await.unwrap().uri();
    conformance::check(&Broker(uri)).await;
}

#[tokio::test]
async fn returned_messages_are_told_apart_within_a_batch() {
    let uri = VirtualHost::new().await.unwrap().uri();
    let member = join(&uri, "mixed").await;
    let publisher = Publisher::start(&uri);
    for round in 0..5_u64 {
        let mut batch = publisher.messages(round * 256 + 1..=(round + 1) * 256);
        let unwanted = |at: usize| (at as u64 + round).is_multiple_of(3);
        for (at, message) in batch.iter_mut().enumerate().filter(|(at, _)| unwanted(*at)) {
            message.routing_key = format!("token.granted.nowhere-{at}");
        }
        let receipts = publisher.insist(&batch).await;
        for (at, receipt) in receipts.into_iter().enumerate() {
            let expected = if unwanted(at) { Receipt::Unrouted } else { Receipt::Confirmed };
            assert_eq!(receipt, expected, "message {at} of round {round}");
        }
    }
    member.leave().await;
    publisher.stop().await;
}

#[tokio::test]
async fn a_message_that_cannot_be_sent_does_not_hold_up_the_others() {
    let uri = VirtualHost::new().await.unwrap().uri();
    let member = join(&uri, "large").await;
    let publisher = Publisher::start(&uri);
    let mut batch = publisher.messages(1..=4);
    batch[0].body = vec![b' '; bus::MAX_BODY + 1].into();
    batch[1].id = "x".repeat(256);
    batch[2].routing_key = "x".repeat(256);
    let receipts = publisher.insist(&batch).await;
    assert_eq!(receipts, [Receipt::Unrouted, Receipt::Unrouted, Receipt::Unrouted, Receipt::Confirmed]);
    member.recorder.until("the good one", |seen| seen == [4]).await;
    member.leave().await;
    publisher.stop().await;
}

#[tokio::test]
async fn confirmed_messages_survive_a_killed_broker_and_publishing_recovers() {
    let node = RabbitMq::start().await.unwrap();
    let publisher = Publisher::start(&node.uri());
    join(&node.uri(), "survivor").await.leave().await;
    node.sync().await.unwrap();
    let before = publisher.messages(1..=500);
    assert_eq!(publisher.insist(&before).await, vec![Receipt::Confirmed; 500]);

    node.kill().await.unwrap();
    let after = publisher.messages(501..=510);
    assert!(publisher.bus.publish(&after).await.is_err());
    let mut state = publisher.bus.publishing();
    let noticed =
        time::timeout(Duration::from_secs(20), state.wait_for(|state| state.phase == Phase::Connecting)).await;
    assert!(noticed.unwrap().unwrap().error.is_some());

    node.restart().await.unwrap();
    assert_eq!(publisher.insist(&after).await, vec![Receipt::Confirmed; 10]);
    let member = join(&node.uri(), "survivor").await;
    member.recorder.until("what was confirmed before", |seen| (1..=510).all(|seq| seen.contains(&seq))).await;
    member.leave().await;
    publisher.stop().await;
}

#[tokio::test]
async fn a_subscriber_lives_through_a_killed_broker() {
    let node = RabbitMq::start().await.unwrap();
    let member = join(&node.uri(), "patient").await;
    node.sync().await.unwrap();
    outlive(&node, member).await;
}

#[tokio::test]
async fn a_queue_that_a_killed_broker_left_without_a_leader_is_declared_again() {
    let node = RabbitMq::start().await.unwrap();
    let member = join(&node.uri(), "young").await;
    outlive(&node, member).await;
}

#[tokio::test]
async fn a_queue_without_a_leader_delays_no_other_messages_and_is_deleted() {
    let node = RabbitMq::start().await.unwrap();
    let stays = join(&node.uri(), "stays").await;
    node.sync().await.unwrap();
    // Declared after the node's last sync, and its server does not come back to redeclare it.
    join(&node.uri(), "gone").await.leave().await;
    let mut resynchronised = stays.recorder.resynchronised();
    node.kill().await.unwrap();
    node.restart().await.unwrap();
    let rejoined = resynchronised.wait_for(|times| *times == 2);
    time::timeout(Duration::from_secs(60), rejoined).await.expect("joined again").unwrap();

    let publisher = Publisher::start(&node.uri());
    let mut mixed = publisher.messages(1..=4);
    mixed[1].routing_key = "replica.assigned.stays".to_owned();
    mixed[3].routing_key = "replica.removed.stays".to_owned();
    let (held, passed) = (Receipt::Unconfirmed, Receipt::Confirmed);
    assert_eq!(publisher.insist(&mixed).await, [held, passed, held, passed]);
    // The wait does not begin again with each batch.
    assert_eq!(publisher.insist(&publisher.messages(5..=600)).await, vec![held; 596]);
    stays.recorder.until("those of other keys", |seen| seen.contains(&2) && seen.contains(&4)).await;

    let servers = ["gone", "stays", "never-was"].map(|id| id.parse().unwrap());
    assert_eq!(publisher.bus.delete_stalled_queues(&servers).await.unwrap(), 1);
    publisher.bus.delete_queue(&servers[2]).await.unwrap();
    assert_eq!(publisher.insist(&publisher.messages(601..=900)).await, vec![passed; 300]);
    stays.recorder.until("all after that", |seen| (601..=900).all(|seq| seen.contains(&seq))).await;
    stays.leave().await;
    publisher.stop().await;
}

async fn outlive(node: &RabbitMq, member: Member) {
    let mut resynchronised = member.recorder.resynchronised();
    resynchronised.wait_for(|times| *times == 1).await.unwrap();
    node.kill().await.unwrap();
    node.restart().await.unwrap();
    let rejoined = resynchronised.wait_for(|times| *times == 2);
    time::timeout(Duration::from_secs(60), rejoined).await.expect("joined again").unwrap();
    let publisher = Publisher::start(&node.uri());
    publisher.insist(&publisher.messages(1..=3)).await;
    member.recorder.until("messages after the restart", |seen| seen.ends_with(&[1, 2, 3])).await;
    member.leave().await;
    publisher.stop().await;
}

#[tokio::test]
async fn a_broker_that_blocks_publishers_delays_them_and_nothing_else() {
    let node = RabbitMq::start().await.unwrap();
    let publisher = Publisher::start(&node.uri());
    let member = join(&node.uri(), "blocked").await;
    publisher.insist(&publisher.messages(1..=1)).await;
    node.ctl(&["set_vm_memory_high_watermark", "absolute", "1"]).await.unwrap();
    let batch = publisher.messages(2..=100);
    let error = publisher.bus.publish(&batch).await.unwrap_err();
    assert!(matches!(error, BusError::Blocked { .. }), "{error:?}");
    let mut state = publisher.bus.publishing();
    let alarm = state.wait_for(|state| state.phase == Phase::Blocked);
    let alarm = time::timeout(Duration::from_secs(30), alarm).await.expect("the alarm shows").unwrap().clone();
    assert!(alarm.kind == Some("alarm") && alarm.error.unwrap().contains("low on memory"));
    // While it lasts, nothing is connected anew, and no line is logged twice.
    assert!(publisher.bus.publish(&batch).await.is_err());
    assert_eq!(publisher.bus.publishing().borrow().since, alarm.since);
    node.ctl(&["set_vm_memory_high_watermark", "absolute", "1GB"]).await.unwrap();
    publisher.insist(&batch).await;
    member.recorder.until("all messages", |seen| (1..=100).all(|seq| seen.contains(&seq))).await;
    member.leave().await;
    publisher.stop().await;
}

#[tokio::test]
async fn closed_connections_are_replaced() {
    let broker = VirtualHost::new().await.unwrap();
    let uri = broker.uri();
    let publisher = Publisher::start(&uri);
    let member = join(&uri, "cut").await;
    publisher.insist(&publisher.messages(1..=10)).await;
    let mut resynchronised = member.recorder.resynchronised();
    for round in 2..=3 {
        broker.ctl(&["close_all_connections", "test"]).await.unwrap();
        let rejoined = resynchronised.wait_for(|times| *times >= round);
        time::timeout(Duration::from_secs(30), rejoined).await.expect("joined again").unwrap();
    }
    publisher.insist(&publisher.messages(11..=20)).await;
    member.recorder.until("messages after the cut", |seen| (1..=20).all(|seq| seen.contains(&seq))).await;
    member.leave().await;
    publisher.stop().await;
}

#[tokio::test]
async fn a_deleted_queue_is_declared_again_and_the_handler_resynchronised() {
    let broker = VirtualHost::new().await.unwrap();
    let uri = broker.uri();
    let publisher = Publisher::start(&uri);
    let member = join(&uri, "deleted").await;
    broker.ctl(&["delete_queue", "ddm.server.deleted"]).await.unwrap();
    let mut resynchronised = member.recorder.resynchronised();
    let rejoined = resynchronised.wait_for(|times| *times == 2);
    time::timeout(Duration::from_secs(30), rejoined).await.expect("joined again").unwrap();
    assert_eq!(publisher.insist(&publisher.messages(1..=5)).await, [Receipt::Confirmed; 5]);
    member.recorder.until("messages of the new queue", |seen| seen == [1, 2, 3, 4, 5]).await;
    member.leave().await;
    publisher.stop().await;
}

#[tokio::test]
async fn a_queue_with_other_arguments_is_replaced() {
    let uri = VirtualHost::new().await.unwrap().uri();
    let (connection, channel) = raw(&uri).await;
    let options = QueueDeclareOptions { durable: true, ..Default::default() };
    channel.queue_declare("ddm.server.old".into(), options, FieldTable::default()).await.unwrap();
    let member = join(&uri, "old").await;
    let publisher = Publisher::start(&uri);
    publisher.insist(&publisher.messages(1..=5)).await;
    member.recorder.until("messages of the new queue", |seen| seen == [1, 2, 3, 4, 5]).await;
    member.leave().await;
    publisher.stop().await;
    connection.close(200, "OK".into()).await.unwrap();
}

#[tokio::test]
async fn messages_are_persistent_json_with_an_id() {
    let uri = VirtualHost::new().await.unwrap().uri();
    join(&uri, "props").await.leave().await;
    let publisher = Publisher::start(&uri);
    let batch = publisher.messages(1..=1);
    publisher.insist(&batch).await;
    let (connection, channel) = raw(&uri).await;
    let got = channel.basic_get("ddm.server.props".into(), BasicGetOptions { no_ack: true }).await.unwrap().unwrap();
    let properties = &got.delivery.properties;
    assert_eq!(*properties.delivery_mode(), Some(2));
    assert_eq!(properties.content_type().as_ref().unwrap().as_str(), "application/json");
    assert_eq!(properties.message_id().as_ref().unwrap().as_str(), batch[0].id);
    assert_eq!(got.delivery.data, batch[0].body);
    publisher.stop().await;
    connection.close(200, "OK".into()).await.unwrap();
}

#[tokio::test]
async fn a_file_servers_user_needs_no_right_to_publish() {
    let broker = VirtualHost::new().await.unwrap();
    let uri = broker.uri();
    let publisher = Publisher::start(&uri);
    // The info-server declares what is shared.
    publisher.insist(&publisher.messages(1..=1)).await;
    let own = r"^ddm\.server\.small$";
    let write = r"^(ddm\.server\.small|ddm\.dead)$";
    let read = r"^(ddm\.server\.small|ddm\.events)$";
    broker.add_user("small", "secret").await.unwrap();
    broker.ctl(&["set_permissions", "small", own, write, read]).await.unwrap();
    let uri = uri.replace("guest:guest", "small:secret");
    let member = join(&uri, "small").await;
    publisher.insist(&publisher.messages(2..=5)).await;
    member.recorder.until("its messages", |seen| seen == [2, 3, 4, 5]).await;
    member.leave().await;
    publisher.stop().await;
}
