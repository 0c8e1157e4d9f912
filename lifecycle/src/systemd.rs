//! What systemd is told of a service of `Type=notify`; nothing where systemd did not start the program.

use sd_notify::NotifyState;

/// The port is open and requests are answered.
pub fn notify_ready() {
    notify(NotifyState::Ready);
}

/// Requests in flight are finished, no new ones are taken.
pub(crate) fn notify_stopping() {
    notify(NotifyState::Stopping);
}

fn notify(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "systemd cannot be told how this service is");
    }
}
