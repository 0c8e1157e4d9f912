//! Notifications to systemd for services of `Type=notify`. They have no effect if systemd did not start the program.

use sd_notify::NotifyState;

/// Notifies systemd that the port is open and requests are answered.
pub fn notify_ready() {
    notify(NotifyState::Ready);
}

/// Notifies systemd that requests in flight are finished and no new ones accepted.
pub(crate) fn notify_stopping() {
    notify(NotifyState::Stopping);
}

fn notify(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "Cannot notify systemd of the state of this service");
    }
}
