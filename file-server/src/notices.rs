//! Whether facts for all are late: a broker brings them at once, unless a queue takes nothing or the connection is gone. The
//! info-server says at once that there are some; what the broker has not brought a moment later is read from the log. So a
//! revocation takes effect within 2 s here, whatever the broker does.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use lifecycle::Shutdown;
use wire::event::Stream;

use crate::{catchup::Follower, server::Server};

/// How long the info-server may wait for news.
const WAIT: Duration = Duration::from_secs(20);
/// How long the broker may take for what the info-server has told of.
const GRACE: Duration = Duration::from_millis(200);
/// After news, until the info-server is asked again; also from one look to the next for the first fact of all, which says of which
/// epoch news is to be.
const REST: Duration = Duration::from_millis(250);
/// After an answer that did not wait, or none.
const PAUSE: Duration = Duration::from_secs(1);

/// Asks all the time, until `shutdown`.
pub(crate) async fn keep_asking(
    server: Arc<Server>,
    follower: Arc<Follower>,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    let asking = async {
        loop {
            server.registration().await;
            let pause = ask(&server, &follower).await;
            tokio::time::sleep(pause).await;
        }
    };
    tokio::select! {
        () = asking => Ok(()),
        () = shutdown.finishing().cancelled() => Ok(()),
    }
}

/// Asks once; how long to wait before the next time.
async fn ask(server: &Server, follower: &Follower) -> Duration {
    let Ok(cursors) = server.store.cursors().await else { return PAUSE };
    let Some(epoch) = cursors.epoch else { return REST };
    let asked = Instant::now();
    let Ok(told) = server.info.notice(epoch, cursors.of(&Stream::All), WAIT).await else { return PAUSE };
    if told.epoch == epoch && told.as_of <= cursors.of(&Stream::All) {
        return if asked.elapsed() < WAIT / 2 { PAUSE } else { Duration::ZERO };
    }
    tokio::time::sleep(GRACE).await;
    match server.store.cursors().await {
        Ok(cursors) if cursors.epoch == Some(told.epoch) && cursors.of(&Stream::All) >= told.as_of => {}
        _ => follower.fall_behind(),
    }
    REST
}
