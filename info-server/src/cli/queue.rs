//! `drop-queue`: the queue of a file server that is gone for good.

use anyhow::{Context as _, ensure};
use wire::ServerId;

use crate::config::Config;

/// Deletes a server's queue.
///
/// # Errors
/// When the settings name no broker, or the broker has no such queue, and the broker's.
pub async fn drop(server: &ServerId, config: &Config) -> anyhow::Result<()> {
    let bus = config.events.broker()?.context("name the broker with --amqp-file or --amqp, before the command")?;
    let existed = bus.delete_queue(server).await.context("the queue could not be deleted")?;
    ensure!(existed, "the broker has no queue of a server {server}: check the id");
    println!("The queue of {server} is deleted.");
    Ok(())
}
