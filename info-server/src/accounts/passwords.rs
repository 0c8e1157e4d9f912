//! Passwords: argon2id on two threads that keep their memory, and the same work for accounts that do not exist.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, anyhow};
use argon2::{
    Algorithm, Argon2, Block, Params, Version,
    password_hash::phc::{Output, ParamsString, PasswordHash, Salt},
};
use secrecy::{ExposeSecret as _, SecretString};
use subtle::ConstantTimeEq as _;
use tokio::{sync::oneshot, time::timeout};

/// Characters in the shortest password (NIST SP 800-63B §5.1.1.2).
pub const MIN_CHARS: usize = 8;
/// Bytes in the longest password: long enough for anyone, short enough to hash.
pub const MAX_BYTES: usize = 1024;

/// Hashes at once: each takes tens of milliseconds of a core, and more would starve everything else.
const HASHING_THREADS: usize = 2;
/// Passwords that may wait for a thread; further ones are refused.
const MAX_QUEUED_PASSWORDS: usize = 64;
/// Longest wait of a password for its answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// The memory of argon2: 19 MiB that one thread uses again and again. Freshly allocated for each hash they would be spread over
/// the allocator's arenas and stay there.
type Memory = Vec<Block>;
type Job = Box<dyn FnOnce(&mut Memory) + Send>;

/// The threads that hash and check passwords, two at a time.
#[derive(Debug, Clone)]
pub struct Passwords {
    jobs: SyncSender<Job>,
    /// Hash to check against when there is no account, so that the time of an answer reveals nothing.
    dummy_hash: Arc<str>,
}

/// The refusal of one password too many.
#[derive(Debug)]
pub struct Overloaded;

impl Passwords {
    /// Starts the threads and prepares the hash that unknown accounts are checked against.
    ///
    /// # Errors
    /// When the system gives no threads or no randomness.
    pub async fn new() -> anyhow::Result<Self> {
        let (jobs, waiting) = sync_channel::<Job>(MAX_QUEUED_PASSWORDS);
        let waiting = Arc::new(Mutex::new(waiting));
        for n in 0..HASHING_THREADS {
            let waiting = waiting.clone();
            thread::Builder::new().name(format!("password-{n}")).spawn(move || work(&waiting))?;
        }
        let random = wire::token::Token::generate(wire::token::TokenKind::Session).expose().to_owned();
        let mut passwords = Self { jobs, dummy_hash: Arc::from("") };
        let dummy_hash =
            passwords.hash(random.into()).await.map_err(|Overloaded| anyhow!("no password can be hashed"))??;
        passwords.dummy_hash = dummy_hash.into();
        Ok(passwords)
    }

    /// Hashes a new password, in turn with the checks.
    ///
    /// # Errors
    /// [`Overloaded`] when no thread was free in time, and when the system gives no randomness.
    pub async fn hash(&self, password: SecretString) -> Result<anyhow::Result<String>, Overloaded> {
        self.on_a_thread(move |memory| hash_in(&password, memory)).await
    }

    /// Returns true if `password` gives `stored`; with `None`, does the same work and returns false.
    ///
    /// # Errors
    /// [`Overloaded`] when no thread was free in time, and a stored hash that cannot be read.
    pub async fn verify(
        &self,
        password: SecretString,
        stored: Option<String>,
    ) -> Result<anyhow::Result<bool>, Overloaded> {
        let known = stored.is_some();
        let stored = stored.unwrap_or_else(|| self.dummy_hash.to_string());
        let right = self.on_a_thread(move |memory| verify_in(&password, &stored, memory)).await?;
        Ok(right.map(|right| right && known))
    }

    async fn on_a_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Memory) -> T + Send + 'static,
    ) -> Result<T, Overloaded> {
        let (done, outcome) = oneshot::channel();
        let job: Job = Box::new(move |memory| {
            // Work whose caller has gone is not done.
            if !done.is_closed() {
                let _ = done.send(work(memory));
            }
        });
        self.jobs.try_send(job).map_err(|_| Overloaded)?;
        timeout(ANSWER_TIMEOUT, outcome).await.ok().and_then(Result::ok).ok_or(Overloaded)
    }
}

/// Works on one thread, until the last [`Passwords`] is gone.
fn work(waiting: &Mutex<Receiver<Job>>) {
    let mut memory = Memory::new();
    loop {
        // Held while waiting: the other thread then waits for the lock instead of the job.
        let job = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match job {
            Ok(job) => job(&mut memory),
            Err(_) => return,
        }
    }
}

/// Hashes a new password in memory of its own, for a command that does nothing else.
///
/// # Errors
/// When the system gives no randomness.
pub fn hash(password: &SecretString) -> anyhow::Result<String> {
    hash_in(password, &mut Memory::new())
}

fn hash_in(password: &SecretString, memory: &mut Memory) -> anyhow::Result<String> {
    let argon2 = Argon2::default();
    let salt = Salt::generate();
    let output = digest(&argon2, password, &salt, memory)?;
    let params = ParamsString::try_from(argon2.params()).map_err(|error| anyhow!("argon2's parameters: {error}"))?;
    let hash = PasswordHash {
        algorithm: Algorithm::default().ident(),
        version: Some(Version::default().into()),
        params,
        salt: Some(salt),
        hash: Some(output),
    };
    Ok(hash.to_string())
}

fn verify_in(password: &SecretString, stored: &str, memory: &mut Memory) -> anyhow::Result<bool> {
    let stored = PasswordHash::new(stored).map_err(|error| anyhow!("a stored password hash: {error}"))?;
    let argon2 = argon2_of(&stored).map_err(|error| anyhow!("a stored password hash: {error}"))?;
    let (salt, expected) =
        stored.salt.as_ref().zip(stored.hash.as_ref()).context("a stored password hash is cut off")?;
    let found = digest(&argon2, password, salt, memory)?;
    Ok(found.as_bytes().ct_eq(expected.as_bytes()).into())
}

/// Returns argon2 with the parameters of a stored hash.
fn argon2_of(stored: &PasswordHash) -> argon2::password_hash::Result<Argon2<'static>> {
    let algorithm = Algorithm::try_from(stored.algorithm.as_str())?;
    let version = stored.version.map(Version::try_from).transpose()?.unwrap_or_default();
    Ok(Argon2::new(algorithm, version, Params::try_from(stored)?))
}

fn digest(argon2: &Argon2<'_>, password: &SecretString, salt: &Salt, memory: &mut Memory) -> anyhow::Result<Output> {
    if memory.len() < argon2.params().block_count() {
        memory.resize(argon2.params().block_count(), Block::new());
    }
    let mut out = [0; Output::MAX_LENGTH];
    let wanted = argon2.params().output_len().unwrap_or(Params::DEFAULT_OUTPUT_LEN);
    let out = out.get_mut(..wanted).context("a password hash of absurd length")?;
    argon2
        .hash_password_into_with_memory(password.expose_secret().as_bytes(), salt, out, memory)
        .map_err(|error| anyhow!("cannot hash the password: {error}"))?;
    Output::new(out).map_err(|error| anyhow!("cannot keep the password's hash: {error}"))
}

/// Refuses passwords that are too short to be safe or too long to be hashed.
///
/// # Errors
/// The length that is allowed.
pub fn check(password: &SecretString) -> Result<(), String> {
    let text = password.expose_secret();
    if text.chars().count() < MIN_CHARS {
        return Err(format!("a password has at least {MIN_CHARS} characters"));
    }
    if text.len() > MAX_BYTES {
        return Err(format!("a password has at most {MAX_BYTES} bytes"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use argon2::{PasswordHasher as _, PasswordVerifier as _};

    #[tokio::test]
    async fn only_the_right_password_of_a_real_account_is_right() {
        let passwords = Passwords::new().await.unwrap();
        let stored = hash(&"correct horse".to_owned().into()).unwrap();
        assert!(stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{stored}");
        let verify = |password: &str, stored: Option<String>| passwords.verify(password.to_owned().into(), stored);
        assert!(verify("correct horse", Some(stored.clone())).await.unwrap().unwrap());
        assert!(!verify("wrong horse", Some(stored)).await.unwrap().unwrap());
        assert!(!verify("correct horse", None).await.unwrap().unwrap());
        assert!(verify("x", Some("not a hash".to_owned())).await.unwrap().is_err());
    }

    #[test]
    fn hashes_are_those_of_everybody_else_in_memory_used_before() {
        let mut memory = Memory::new();
        for password in ["first password", "second password"] {
            let ours = hash_in(&password.to_owned().into(), &mut memory).unwrap();
            assert!(Argon2::default().verify_password(password.as_bytes(), ours.as_str()).is_ok());
            let theirs = Argon2::default().hash_password(password.as_bytes()).unwrap().to_string();
            assert!(verify_in(&password.to_owned().into(), &theirs, &mut memory).unwrap());
        }
        let cheaper = Params::new(8, 1, 1, Some(16)).unwrap();
        let old = Argon2::from(cheaper).hash_password(b"an old one").unwrap().to_string();
        assert!(verify_in(&"an old one".to_owned().into(), &old, &mut memory).unwrap());
        assert!(!verify_in(&"another one".to_owned().into(), &old, &mut memory).unwrap());
    }

    #[tokio::test]
    async fn what_does_not_fit_the_queue_is_sent_away_at_once() {
        let passwords = Passwords::new().await.unwrap();
        let all = (0..4 * MAX_QUEUED_PASSWORDS).map(|_| passwords.verify("whatever".to_owned().into(), None));
        let outcomes = futures::future::join_all(all).await;
        let crowded = outcomes.iter().filter(|outcome| outcome.is_err()).count();
        assert!(crowded >= 2 * MAX_QUEUED_PASSWORDS, "{crowded} of {} were sent away", 4 * MAX_QUEUED_PASSWORDS);
        assert!(!passwords.verify("whatever".to_owned().into(), None).await.unwrap().unwrap());
    }
}
