//! Publishes as fast as confirms come back, 256 in flight: `cargo run --release -p ddm-bus --example publish_rate`.

use std::{sync::Arc, time::Instant};

use anyhow::Result;
use ddm_bus::{
    Amqp, EventBus as _, MAX_BATCH, Subscription,
    conformance::{Member, Recorder, message},
};
use testkit::rabbitmq::RabbitMq;
use tokio_util::sync::CancellationToken;
use wire::{event::Stream, id::Epoch};

const BATCHES: u64 = 200;

#[tokio::main]
async fn main() -> Result<()> {
    let node = RabbitMq::start().await?;
    let subscription = Subscription { server: "rate".parse()?, zone: "rate".parse()? };
    // The queue exists, and no consumer reads from it meanwhile.
    Member::join(Arc::new(Amqp::new(&node.uri())?), &subscription, Recorder::acking()).await.leave().await;
    let (bus, shutdown, epoch) = (Arc::new(Amqp::new(&node.uri())?), CancellationToken::new(), Epoch::new());
    let (running, end) = (Arc::clone(&bus), shutdown.clone());
    let task = tokio::spawn(async move { running.run(end).await });
    let stream = Stream::Zone(subscription.zone.clone());
    bus.publish(&[message(epoch, &stream, 1)]).await?;
    let started = Instant::now();
    for batch in 0..BATCHES {
        let first = batch * MAX_BATCH as u64 + 2;
        let batch: Vec<_> = (first..first + MAX_BATCH as u64).map(|seq| message(epoch, &stream, seq)).collect();
        bus.publish(&batch).await?;
    }
    let (count, took) = (BATCHES * MAX_BATCH as u64, started.elapsed());
    println!("{count} messages confirmed in {took:?}: {:.0}/s", count as f64 / took.as_secs_f64());
    shutdown.cancel();
    task.await?;
    Ok(())
}
