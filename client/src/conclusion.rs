//! The end of a command: its error, and its exit status.

use anyhow::bail;

use crate::{
    context::Context,
    error_message,
    exit::{Exit, UsageError},
    output,
};

/// Prints the error of a command and returns the exit status. A command whose output was lost has failed.
pub(crate) fn conclude(context: &Context, outcome: anyhow::Result<Exit>) -> Exit {
    let outcome = outcome.and_then(|exit| {
        if exit == Exit::Done && output::write_failed() {
            bail!("cannot write to standard output");
        }
        Ok(exit)
    });
    outcome.unwrap_or_else(|error| {
        error_message::print(context, &error);
        if error.is::<UsageError>() { Exit::Usage } else { Exit::Failed }
    })
}
