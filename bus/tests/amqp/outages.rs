//! Outages: their reasons are told, and they end by themselves.

use std::{sync::Arc, time::Duration};

use bus::{Amqp, EventBus as _, Phase, Receipt, conformance::Recorder};
use ddm_bus as bus;
use lapin::{
    BasicProperties, ExchangeKind,
    options::{BasicGetOptions, BasicPublishOptions, ExchangeDeclareOptions, ExchangeDeleteOptions},
    types::FieldTable,
};
use testkit::rabbitmq::VirtualHost;
use tokio::time;
use tokio_util::sync::CancellationToken;

use super::{Publisher, join, raw, subscription};

#[tokio::test]
async fn a_missing_permission_is_named_and_a_connection_alone_does_not_end_the_outage() {
    let broker = VirtualHost::new().await.unwrap();
    let uri = broker.uri();
    let all = ".*";
    broker.add_user("mute", "secret").await.unwrap();
    broker.ctl(&["set_permissions", "mute", all, "^nothing$", all]).await.unwrap();
    let owner = Publisher::start(&uri);
    owner.insist(&owner.messages(1..=1)).await;
    let publisher = Publisher::start(&uri.replace("guest:guest", "mute:secret"));
    let batch = publisher.messages(1..=1);
    let mut state = publisher.bus.publishing();
    let refused = async {
        while state.borrow_and_update().kind != Some("access-refused") {
            publisher.bus.publish(&batch).await.unwrap_err();
        }
    };
    time::timeout(Duration::from_secs(60), refused).await.expect("it is named");
    let seen = state.borrow().clone();
    let error = seen.error.unwrap();
    assert!(error.contains("ACCESS_REFUSED") && error.contains("ddm.") && error.contains("127.0.0.1:"), "{error}");
    assert_eq!((seen.phase, seen.kind), (Phase::Connecting, Some("access-refused")));
    // Connected and refused again: still the same outage.
    publisher.bus.publish(&batch).await.unwrap_err();
    assert_eq!(publisher.bus.publishing().borrow().since, seen.since);
    broker.ctl(&["set_permissions", "mute", all, all, all]).await.unwrap();
    publisher.insist(&batch).await;
    let connected = state.wait_for(|state| state.phase == Phase::Connected);
    time::timeout(Duration::from_secs(30), connected).await.expect("connected").unwrap();
    publisher.stop().await;
    owner.stop().await;
}

#[tokio::test]
async fn a_changed_password_is_read_again_and_a_dead_node_is_passed_over() {
    let broker = VirtualHost::new().await.unwrap();
    broker.add_user("rotated", "one").await.unwrap();
    // The first node is not there.
    let text = |password: &str| {
        let living = broker.uri_of("rotated", password);
        format!("amqp://rotated:{password}@127.0.0.1:1/,{living}")
    };
    let file = Arc::new(std::sync::Mutex::new(text("one")));
    let reading = file.clone();
    let read = move || Ok(reading.lock().unwrap().clone());
    let (bus, shutdown) = (Arc::new(Amqp::reading(&text("one"), Box::new(read)).unwrap()), CancellationToken::new());
    let (running, end) = (Arc::clone(&bus), shutdown.clone());
    let task = tokio::spawn(async move { running.run(end).await });
    let mut state = bus.publishing();
    let connected = state.wait_for(|state| state.phase == Phase::Connected);
    time::timeout(Duration::from_secs(30), connected).await.expect("connected").unwrap();
    broker.change_password("rotated", "two").await.unwrap();
    broker.ctl(&["close_all_connections", "rotated"]).await.unwrap();
    let refused = state.wait_for(|state| state.error.as_ref().is_some_and(|error| error.contains("ACCESS_REFUSED")));
    time::timeout(Duration::from_secs(30), refused).await.expect("it is named").unwrap();
    *file.lock().unwrap() = text("two");
    let connected = state.wait_for(|state| state.phase == Phase::Connected);
    time::timeout(Duration::from_secs(30), connected).await.expect("connected again").unwrap();
    shutdown.cancel();
    task.await.unwrap();
}

#[tokio::test]
async fn lost_bindings_come_back_and_exchanges_of_another_type_are_replaced() {
    let uri = VirtualHost::new().await.unwrap().uri();
    let (connection, channel) = raw(&uri).await;
    let (options, none) = (ExchangeDeclareOptions { durable: true, ..Default::default() }, FieldTable::default);
    channel.exchange_declare("ddm.dead".into(), ExchangeKind::Direct, options, none()).await.unwrap();
    let publisher = Publisher::start(&uri);
    publisher.insist(&publisher.messages(1..=1)).await;
    let member = join(&uri, "unbound").await;
    // The exchange is made anew, as by the info-server, and nothing is bound to it.
    channel.exchange_delete("ddm.events".into(), ExchangeDeleteOptions::default()).await.unwrap();
    channel.exchange_declare("ddm.events".into(), ExchangeKind::Topic, options, none()).await.unwrap();
    let bound = async {
        while publisher.insist(&publisher.messages(2..=2)).await != [Receipt::Confirmed] {
            time::sleep(Duration::from_millis(200)).await;
        }
    };
    time::timeout(Duration::from_secs(60), bound).await.expect("the queue is bound again");
    member.recorder.until("the message after", |seen| seen.contains(&2)).await;
    // What cannot be read is kept, although `ddm.dead` was of a type that routes nothing.
    let (key, plain) = ("token.granted.z".into(), BasicProperties::default());
    channel.basic_publish("ddm.events".into(), key, BasicPublishOptions::default(), b"{no", plain).await.unwrap();
    let kept = async {
        while channel.basic_get("ddm.dead".into(), BasicGetOptions { no_ack: true }).await.unwrap().is_none() {
            time::sleep(Duration::from_millis(100)).await;
        }
    };
    time::timeout(Duration::from_secs(30), kept).await.expect("it is kept");
    member.leave().await;
    publisher.stop().await;
    connection.close(200, "OK".into()).await.unwrap();
}

#[tokio::test]
async fn a_limit_of_the_virtual_host_is_told_as_such() {
    let broker = VirtualHost::new().await.unwrap();
    let uri = broker.uri();
    let publisher = Publisher::start(&uri);
    publisher.insist(&publisher.messages(1..=1)).await;
    broker.ctl(&["set_vhost_limits", r#"{"max-queues": 1}"#]).await.unwrap();
    let (bus, shutdown) = (Arc::new(Amqp::new(&uri).unwrap()), CancellationToken::new());
    let (running, end) = (Arc::clone(&bus), shutdown.clone());
    let task = tokio::spawn(async move {
        let recorder = Recorder::acking();
        running.subscribe(&subscription("limited"), &*recorder, &end).await
    });
    let mut state = bus.subscribed();
    let told = state.wait_for(|state| state.error.as_ref().is_some_and(|error| error.contains("limit")));
    let told = time::timeout(Duration::from_secs(30), told).await.expect("the limit is told").unwrap().clone();
    assert_eq!(told.kind, Some("precondition"), "{told:?}");
    shutdown.cancel();
    task.await.unwrap().unwrap();
    publisher.stop().await;
}

#[tokio::test]
async fn a_wrong_password_shows_in_the_state_and_nowhere_as_text() {
    let uri = VirtualHost::new().await.unwrap().uri_of("guest", "s3cret");
    let publisher = Publisher::start(&uri);
    let mut state = publisher.bus.publishing();
    let failed = time::timeout(Duration::from_secs(30), state.wait_for(|state| state.error.is_some())).await;
    let said = format!("{:?} {:?}", failed.unwrap().unwrap(), publisher.bus);
    assert!(said.contains("ACCESS_REFUSED") && !said.contains("s3cret"), "{said}");
    publisher.stop().await;
}

#[tokio::test]
async fn a_silent_broker_accumulates_no_threads() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("amqp://{}", listener.local_addr().unwrap());
    let publisher = Publisher::start(&uri);
    let (mut first, _) = listener.accept().await.unwrap();
    // The attempt is abandoned: its socket ends, and with it the thread that reads from it.
    let mut greeting = Vec::new();
    let ended = tokio::io::AsyncReadExt::read_to_end(&mut first, &mut greeting);
    time::timeout(Duration::from_secs(20), ended).await.expect("hung up").unwrap();
    assert_eq!(greeting, b"AMQP\x00\x00\x09\x01");
    let mut state = publisher.bus.publishing();
    state.wait_for(|state| state.error.as_deref().is_some_and(|error| error.contains("handshake"))).await.unwrap();
    publisher.stop().await;
}
