//! The opening of a TCP connection to a host with several addresses.
//!
//! The look-up of the name has a time limit of its own: a dead name server costs five seconds before the next one is asked. The
//! addresses are tried one after the other, each a little later than the one before, so that a dead one delays the living ones by
//! [`ATTEMPT_INTERVAL`] only (RFC 8305).

use std::{io, net::SocketAddr, time::Duration};

use futures::{StreamExt as _, stream::FuturesUnordered};
use tokio::time;

/// Time for the look-up of a name: three name servers, of which two are dead.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(15);
/// Time between the beginnings of two attempts.
const ATTEMPT_INTERVAL: Duration = Duration::from_millis(300);
/// Time for each attempt.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(4);
/// Addresses of one name that are tried.
const MAX_ADDRESSES: usize = 16;

/// Returns the addresses of a host.
pub(super) async fn look_up(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let found = time::timeout(LOOKUP_TIMEOUT, tokio::net::lookup_host((host, port))).await;
    let found = found.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "its name was not resolved in time"))??;
    Ok(found.take(MAX_ADDRESSES).collect())
}

/// Connects to the first address that answers.
pub(super) async fn connect<T, F: Future<Output = io::Result<T>>>(
    addresses: Vec<SocketAddr>,
    attempt: impl Fn(SocketAddr) -> F,
) -> io::Result<T> {
    let mut waiting = addresses.into_iter();
    let mut running = FuturesUnordered::new();
    let mut last = io::Error::new(io::ErrorKind::NotFound, "its name has no address");
    loop {
        if let Some(address) = waiting.next() {
            let attempt = attempt(address);
            running.push(async move {
                let outcome = time::timeout(ATTEMPT_TIMEOUT, attempt).await;
                outcome.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            });
        } else if running.is_empty() {
            return Err(last);
        }
        let more = waiting.len() > 0;
        tokio::select! {
            Some(outcome) = running.next() => match outcome {
                Ok(connected) => return Ok(connected),
                Err(error) => last = error,
            },
            () = time::sleep(ATTEMPT_INTERVAL), if more => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn dead_addresses_delay_a_living_one_by_their_intervals_alone() {
        let address = |n: u8| SocketAddr::from(([192, 0, 2, n], 1));
        let (silent, refusing, living) = (address(1), address(2), address(3));
        let attempt = |address: SocketAddr| async move {
            match address {
                address if address == silent => std::future::pending().await,
                address if address == refusing => Err(io::ErrorKind::ConnectionRefused.into()),
                address => Ok(address),
            }
        };
        for (addresses, outcome, took_ms) in [
            (vec![living, silent], Ok(living), 0),
            (vec![silent, living], Ok(living), 300),
            (vec![silent, silent, living], Ok(living), 600),
            (vec![refusing, living], Ok(living), 0),
            (vec![refusing, refusing], Err(io::ErrorKind::ConnectionRefused), 0),
            (vec![silent], Err(io::ErrorKind::TimedOut), 4_000),
            (vec![], Err(io::ErrorKind::NotFound), 0),
        ] {
            let begun = Instant::now();
            let connected = connect(addresses.clone(), attempt).await.map_err(|error| error.kind());
            assert_eq!((connected, begun.elapsed().as_millis()), (outcome, took_ms), "{addresses:?}");
        }
    }
}
