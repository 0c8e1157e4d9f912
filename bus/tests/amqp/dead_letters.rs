//! Messages that no server can read, and the queue that keeps them.

use std::time::Duration;

use bus::EventBus as _;
use ddm_bus as bus;
use lapin::{
    BasicProperties,
    options::{BasicGetOptions, BasicPublishOptions, QueueDeclareOptions},
    types::FieldTable,
};
use testkit::rabbitmq::VirtualHost;
use tokio::time;

use super::{Publisher, join, raw};

#[tokio::test]
async fn poison_goes_to_the_dead_letters_and_the_rest_is_served() {
    let uri = VirtualHost::new().await.unwrap().uri();
    let publisher = Publisher::start(&uri);
    check_poison(&uri, &publisher).await;
    assert_eq!(publisher.bus.publishing().borrow().warning, None);
    publisher.stop().await;
}

#[tokio::test]
async fn a_dead_letter_queue_of_another_type_is_named_and_takes_poison_until_it_is_replaced() {
    let broker = VirtualHost::new().await.unwrap();
    let uri = broker.uri();
    let (connection, channel) = raw(&uri).await;
    let options = QueueDeclareOptions { durable: true, ..Default::default() };
    channel.queue_declare("ddm.dead".into(), options, FieldTable::default()).await.unwrap();
    let publisher = Publisher::start(&uri);
    check_poison(&uri, &publisher).await;
    let mut state = publisher.bus.publishing();
    let warning = state.borrow().warning.clone().unwrap();
    for part in ["ddm.dead", "inequivalent arg", "quorum queue", "delete it"] {
        assert!(warning.contains(part), "{warning}");
    }
    // What the line advises.
    broker.ctl(&["delete_queue", "ddm.dead"]).await.unwrap();
    let mended = state.wait_for(|state| state.warning.is_none());
    time::timeout(Duration::from_secs(60), mended).await.expect("declared again").unwrap();
    check_poison(&uri, &publisher).await;
    publisher.stop().await;
    connection.close(200, "OK".into()).await.unwrap();
}

#[tokio::test]
async fn a_dead_letter_queue_that_another_connection_has_to_itself_stops_no_event() {
    let uri = VirtualHost::new().await.unwrap().uri();
    let (connection, channel) = raw(&uri).await;
    let options = QueueDeclareOptions { exclusive: true, ..Default::default() };
    channel.queue_declare("ddm.dead".into(), options, FieldTable::default()).await.unwrap();
    let publisher = Publisher::start(&uri);
    let member = join(&uri, "undisturbed").await;
    publisher.insist(&publisher.messages(1..=5)).await;
    member.recorder.until("the messages", |seen| seen == [1, 2, 3, 4, 5]).await;
    let warning = publisher.bus.publishing().borrow().warning.clone().unwrap();
    assert!(warning.contains("ddm.dead") && warning.contains("RESOURCE_LOCKED"), "{warning}");
    member.leave().await;
    publisher.stop().await;
    connection.close(200, "OK".into()).await.unwrap();
}

/// Sends three messages that no server can read, and five others.
async fn check_poison(uri: &str, publisher: &Publisher) {
    let member = join(uri, "poisoned").await;
    let (connection, channel) = raw(uri).await;
    let large = vec![b'x'; bus::MAX_BODY + 1];
    for body in [b"{not json".as_slice(), &large, b""] {
        let key = "token.granted.z".into();
        let options = BasicPublishOptions::default();
        channel.basic_publish("ddm.events".into(), key, options, body, BasicProperties::default()).await.unwrap();
    }
    publisher.insist(&publisher.messages(1..=5)).await;
    member.recorder.until("the messages behind", |seen| seen == [1, 2, 3, 4, 5]).await;
    let mut dead = Vec::new();
    let collect = async {
        while dead.len() < 3 {
            let got = channel.basic_get("ddm.dead".into(), BasicGetOptions { no_ack: true }).await.unwrap();
            match got {
                Some(got) => dead.push(got.delivery.data.len()),
                None => time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    time::timeout(Duration::from_secs(30), collect).await.expect("three dead letters");
    dead.sort_unstable();
    assert_eq!(dead, [0, 9, bus::MAX_BODY + 1]);
    member.leave().await;
    connection.close(200, "OK".into()).await.unwrap();
}
