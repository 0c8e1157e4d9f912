//! Several downloads or uploads of one command: side by side within a bound, each with its own outcome.

use std::{fmt::Display, sync::Arc};

use anyhow::Context as _;
use futures::{StreamExt as _, future::BoxFuture, stream};

use crate::{
    cli::DownloadOptions,
    conclusion::conclude,
    context::Context,
    destination,
    exit::{Exit, UsageError},
    output::{self, print_json, status},
    text,
};

/// Outcome of one item of a batch.
pub(super) struct Ended {
    pub(super) name: String,
    pub(super) exit: Exit,
}

/// Refuses options that only suit one file.
pub(super) fn check_options(options: &DownloadOptions) -> anyhow::Result<()> {
    if destination::is_to_standard_output(options) {
        return Err(UsageError::refusal("-o - takes one file; name a folder with -o, or run one command per file"));
    }
    match options.output.as_deref().filter(|output| !output.is_dir()) {
        Some(output) => Err(UsageError::refusal(format!(
            "several files need a folder, and {} is none; create it, or choose another with -o",
            text::path(output)
        ))),
        None => Ok(()),
    }
}

/// Works on all items, at most `limit` at a time. One that fails leaves the others running.
///
/// # Errors
/// None; each item prints its own.
pub(super) async fn run<T: Display + Send>(
    context: &Context,
    items: Vec<T>,
    limit: usize,
    work: impl Fn(Arc<Context>, T) -> BoxFuture<'static, anyhow::Result<Exit>>,
) -> anyhow::Result<Exit> {
    let mut running = stream::iter(items)
        .map(|item| {
            let own = Arc::new(context.beside(context.cancel.clone()));
            let name = item.to_string();
            let working = work(Arc::clone(&own), item);
            async move {
                let outcome = output::about(name.clone(), async {
                    if own.cancel.is_cancelled() {
                        Exit::Interrupted
                    } else {
                        conclude(&own, named(working.await, &name))
                    }
                });
                Ended { exit: outcome.await, name }
            }
        })
        .buffer_unordered(limit.max(1));
    let mut ended = Vec::new();
    while let Some(one) = running.next().await {
        ended.push(one);
    }
    Ok(summarize(context.common.json, &ended))
}

/// Names the item that an error is about.
fn named(outcome: anyhow::Result<Exit>, name: &str) -> anyhow::Result<Exit> {
    outcome.with_context(|| text::plain_line(name))
}

/// Prints the items that failed, and returns the exit status of the whole command.
pub(super) fn summarize(json: bool, ended: &[Ended]) -> Exit {
    let has = |wanted: &[Exit]| {
        let names = ended.iter().filter(|one| wanted.contains(&one.exit)).map(|one| text::plain_line(&one.name));
        names.collect::<Vec<_>>()
    };
    let (failed, interrupted) = (has(&[Exit::Failed, Exit::Usage, Exit::OutputClosed]), has(&[Exit::Interrupted]));
    if json {
        let done = has(&[Exit::Done]).len();
        print_json(
            &serde_json::json!({ "event": "ended", "done": done, "failed": failed, "interrupted": interrupted }),
        );
    }
    if !failed.is_empty() {
        status(&format!("ddm-client: {} of {} failed: {}", failed.len(), ended.len(), failed.join(", ")));
    }
    match (interrupted.is_empty(), failed.is_empty()) {
        (false, _) => Exit::Interrupted,
        (true, false) => Exit::Failed,
        (true, true) => Exit::Done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_fails_if_any_item_fails_and_is_interrupted_if_any_is() {
        for (exits, expected) in [
            (vec![Exit::Done, Exit::Done], Exit::Done),
            (vec![Exit::Done, Exit::Failed, Exit::Done], Exit::Failed),
            (vec![Exit::Usage, Exit::Done], Exit::Failed),
            (vec![Exit::Failed, Exit::Interrupted], Exit::Interrupted),
            (vec![], Exit::Done),
        ] {
            let ended: Vec<Ended> = exits.iter().map(|exit| Ended { name: "x".to_owned(), exit: *exit }).collect();
            assert_eq!(summarize(false, &ended), expected, "{exits:?}");
        }
    }
}
