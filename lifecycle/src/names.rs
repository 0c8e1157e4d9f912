//! Look-ups of host names that outlive the attempts that wait for them.
//!
//! An HTTP client's time limit for a connection includes the look-up, and a dead name server costs five seconds before the next one is
//! asked: an attempt with a limit of two seconds would never see an answer, however often it is repeated. Here a look-up goes on in the
//! background, and the next attempt finds its result.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

/// Time for one look-up: three name servers, of which two are dead.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(15);
/// Time for which a result is used. Only an attempt that waited too long should need an old one.
const RESULT_LIFETIME: Duration = Duration::from_secs(10);
/// Names that are remembered.
const MAX_NAMES: usize = 1024;

/// Outcome of a look-up.
type Found = Result<Vec<SocketAddr>, Failure>;

/// Failure of a look-up, which several callers receive.
#[derive(Debug, Clone)]
struct Failure {
    kind: io::ErrorKind,
    text: String,
}

#[derive(Debug)]
struct LookUp {
    begun: Instant,
    found: watch::Receiver<Option<Found>>,
}

/// Look-ups of host names. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Names(Arc<Mutex<HashMap<String, LookUp>>>);

impl Names {
    /// Returns the addresses of a host, with port 0. The look-up goes on if the caller gives up.
    ///
    /// # Errors
    /// The system's, or a time-out.
    pub async fn look_up(&self, host: &str) -> io::Result<Vec<SocketAddr>> {
        let name = host.to_owned();
        self.find(host, async move { Ok(tokio::net::lookup_host((name.as_str(), 0)).await?.collect()) }).await
    }

    async fn find(
        &self,
        host: &str,
        look_up: impl Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'static,
    ) -> io::Result<Vec<SocketAddr>> {
        let mut found = self.begin(host, look_up);
        let found = match found.wait_for(Option::is_some).await {
            Ok(found) => found.clone(),
            Err(_) => None,
        };
        match found {
            Some(Ok(addresses)) => Ok(addresses),
            Some(Err(Failure { kind, text })) => Err(io::Error::new(kind, format!("{host}: {text}"))),
            None => Err(io::Error::new(io::ErrorKind::NotFound, format!("{host}: its look-up was dropped"))),
        }
    }

    /// Joins the look-up of a name, or begins one.
    fn begin(
        &self,
        host: &str,
        look_up: impl Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'static,
    ) -> watch::Receiver<Option<Found>> {
        let mut names = self.names();
        if names.len() >= MAX_NAMES {
            names.retain(|_, look_up| is_usable(look_up));
        }
        if let Some(known) = names.get(host).filter(|look_up| is_usable(look_up)) {
            return known.found.clone();
        }
        let (result, found) = watch::channel(None);
        names.insert(host.to_owned(), LookUp { begun: Instant::now(), found: found.clone() });
        drop(names);
        tokio::spawn(async move {
            let outcome =
                timeout(LOOKUP_TIMEOUT, look_up).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
            let outcome = outcome.map_err(|error| Failure { kind: error.kind(), text: error.to_string() });
            result.send_replace(Some(outcome));
        });
        found
    }

    fn names(&self) -> MutexGuard<'_, HashMap<String, LookUp>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns true while a look-up runs, and for some time after its success.
fn is_usable(look_up: &LookUp) -> bool {
    match &*look_up.found.borrow() {
        // Its task may have ended with its runtime.
        None => look_up.begun.elapsed() < LOOKUP_TIMEOUT && look_up.found.has_changed().is_ok(),
        Some(Ok(_)) => look_up.begun.elapsed() < LOOKUP_TIMEOUT + RESULT_LIFETIME,
        Some(Err(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_slow_look_up_is_found_by_the_attempts_after_the_one_that_gave_up() {
        let names = Names::default();
        let slow = || async {
            tokio::time::sleep(Duration::from_secs(5)).await;
            Ok(vec![SocketAddr::from(([192, 0, 2, 1], 0))])
        };
        let never = || async { Err(io::ErrorKind::Unsupported.into()) };
        assert!(timeout(Duration::from_secs(2), names.find("a", slow())).await.is_err());
        assert!(timeout(Duration::from_secs(2), names.find("a", never())).await.is_err(), "the first one still runs");
        let begun = Instant::now();
        assert_eq!(names.find("a", never()).await.unwrap().len(), 1);
        assert!(begun.elapsed() <= Duration::from_secs(1));
        tokio::time::sleep(LOOKUP_TIMEOUT + RESULT_LIFETIME).await;
        let failed = names.find("a", never()).await.unwrap_err();
        assert_eq!(failed.kind(), io::ErrorKind::Unsupported, "an old result is not used");
        assert!(failed.to_string().starts_with("a: "), "{failed}");
        assert!(names.find("a", slow()).await.is_ok(), "nor is a failure");
    }

    #[tokio::test]
    async fn the_system_knows_localhost() {
        assert!(Names::default().look_up("localhost").await.unwrap().iter().all(|address| address.ip().is_loopback()));
    }
}
