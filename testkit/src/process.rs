//! Real programs of this workspace, with real signals.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};

pub use self::failing::{Attached, Failing};
use crate::netns::Host;

mod failing;

/// Time limit until a server listens; the machine may be busy with a build.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// Time limit for a program to end after it was told to.
const STOP_TIMEOUT: Duration = Duration::from_secs(45);
const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// Variables that programs take from the tests' own environment: where programs and temporary files are, and what is measured.
const KEPT_VARIABLES: [&str; 5] = ["PATH", "TMPDIR", "LD_LIBRARY_PATH", "LLVM_PROFILE_FILE", "RUST_BACKTRACE"];

/// The program `name`, built beside the running test.
///
/// # Errors
/// When it was not built; the message says how to.
pub fn program(name: &str) -> anyhow::Result<PathBuf> {
    let test = std::env::current_exe()?;
    let folder = test.ancestors().nth(2).context("a test runs two folders below the programs")?;
    let path = folder.join(name);
    ensure!(path.is_file(), "{} is not built: run ./test, or cargo build --workspace first", path.display());
    Ok(path)
}

/// A command of this workspace in the environment of [`tool`].
///
/// # Errors
/// When it was not built.
pub fn command(name: &str) -> anyhow::Result<Command> {
    Surroundings::default().command(name)
}

/// A program of the system in an environment that is the same wherever the tests run: without the settings, proxies, language, time
/// zone and terminal of the account that runs them, and without a home folder.
pub fn tool(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env_clear().envs(KEPT_VARIABLES.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    command.env("HOME", "/nonexistent").env("LANG", "C.UTF-8").env("TZ", "UTC");
    command.kill_on_drop(true).stdin(Stdio::null());
    command
}

/// Surroundings of a program: its host, and the faults the system injects.
#[derive(Debug, Clone, Copy, Default)]
pub struct Surroundings<'a> {
    /// Host of the process; the test's own without one.
    pub host: Option<&'a Host>,
    /// System calls that fail from its start on.
    pub failing: Option<&'a Failing>,
    /// Variables in its environment.
    pub env: &'a [(String, String)],
    /// Words before the command; what they begin with must become it.
    pub before: &'a [String],
}

impl Surroundings<'_> {
    /// A command of this workspace there. Its process id is the program's own.
    ///
    /// # Errors
    /// When it was not built.
    pub fn command(self, name: &str) -> anyhow::Result<Command> {
        let mut words: Vec<OsString> = Vec::new();
        words.extend(self.host.iter().flat_map(|host| host.prefix()).map(OsStr::to_owned));
        words.extend(self.before.iter().map(OsString::from));
        words.extend(self.failing.iter().flat_map(|failing| failing.prefix()));
        words.push(program(name)?.into_os_string());
        let mut words = words.into_iter();
        let mut command = tool(words.next().context("a program")?);
        command.args(words).envs(self.env.iter().map(|(name, value)| (name, value)));
        Ok(command)
    }
}

/// A server of this workspace, running. Dropping it kills it.
#[derive(Debug)]
pub struct Server {
    child: Child,
    log: PathBuf,
    address: SocketAddr,
}

impl Server {
    /// Starts a server and waits until it says where it listens. Its log goes to `log`, after what is there.
    ///
    /// # Errors
    /// When it ends or does not listen in time; the message holds its log.
    pub async fn start(name: &str, args: &[impl AsRef<OsStr>], log: &Path) -> anyhow::Result<Self> {
        Self::start_in(Surroundings::default(), name, args, log).await
    }

    /// Starts a server as [`Self::start`] does, on another host or with failing system calls.
    ///
    /// # Errors
    /// When it ends or does not listen in time; the message holds its log.
    pub async fn start_in(
        surroundings: Surroundings<'_>,
        name: &str,
        args: &[impl AsRef<OsStr>],
        log: &Path,
    ) -> anyhow::Result<Self> {
        let file = File::options().create(true).append(true).open(log)?;
        let before = usize::try_from(file.metadata()?.len())?;
        let mut command = surroundings.command(name)?;
        let mut child =
            command.args(args).stdout(Stdio::null()).stderr(file).spawn().with_context(|| name.to_owned())?;
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            let text = std::fs::read_to_string(log)?;
            let fresh = text.get(before..).unwrap_or_default();
            if let Some(mut address) = fresh.split_inclusive('\n').find_map(listening) {
                if let Some(host) = surroundings.host {
                    address.set_ip(host.address().into());
                }
                return Ok(Self { child, log: log.to_owned(), address });
            }
            if let Some(status) = child.try_wait()? {
                // Its last words may have come since.
                let text = std::fs::read_to_string(log)?;
                let fresh = text.get(before..).unwrap_or_default();
                bail!("{name} ended with {status}:\n{fresh}");
            }
            ensure!(Instant::now() < deadline, "{name} does not listen:\n{fresh}");
            sleep(POLL_INTERVAL).await;
        }
    }

    /// Returns the address it listens on.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// All that it logged so far.
    ///
    /// # Errors
    /// When the log is gone.
    pub fn log(&self) -> anyhow::Result<String> {
        Ok(std::fs::read_to_string(&self.log)?)
    }

    /// Its process id.
    ///
    /// # Errors
    /// When it has ended.
    pub fn pid(&self) -> anyhow::Result<Pid> {
        let id = self.child.id().context("the process has ended")?;
        Pid::from_raw(id.try_into()?).context("a process id")
    }

    /// Returns true if it runs: neither ended nor stopped by a signal.
    pub fn runs(&self) -> bool {
        let state = self.pid().ok().and_then(|pid| {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
            stat.rsplit(')').next()?.trim().chars().next()
        });
        state.is_some_and(|state| !"TtZX".contains(state))
    }

    /// Sends a real signal.
    ///
    /// # Errors
    /// When the process has ended.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        Ok(kill_process(self.pid()?, signal)?)
    }

    /// SIGKILL, and waits for the end.
    ///
    /// # Errors
    /// When the process cannot be waited for.
    pub async fn kill(mut self) -> anyhow::Result<()> {
        self.child.start_kill()?;
        self.wait().await.map(drop)
    }

    /// SIGTERM, and waits for the end.
    ///
    /// # Errors
    /// When it does not end in time.
    pub async fn stop(mut self) -> anyhow::Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        self.wait().await
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// When it does not end in time.
    pub async fn wait(&mut self) -> anyhow::Result<ExitStatus> {
        Ok(timeout(STOP_TIMEOUT, self.child.wait()).await.context("it does not end")??)
    }

    /// Resident memory in bytes.
    ///
    /// # Errors
    /// When it has ended.
    pub fn resident(&self) -> anyhow::Result<u64> {
        resident(self.pid()?)
    }
}

/// Resident memory of a process in bytes: its present value.
///
/// # Errors
/// When it has ended.
pub fn resident(pid: Pid) -> anyhow::Result<u64> {
    status_field(pid, "VmRSS:")
}

/// The highest resident memory of a process in bytes.
///
/// # Errors
/// When it has ended.
pub fn peak_resident(pid: Pid) -> anyhow::Result<u64> {
    status_field(pid, "VmHWM:")
}

fn status_field(pid: Pid, field: &str) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero()))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)).context("the process has ended")?;
    let kilobytes: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kilobytes * 1024)
}

/// The address in a log line, complete with its end, that says where a server listens.
fn listening(line: &str) -> Option<SocketAddr> {
    let line = line.strip_suffix('\n')?;
    let at = line.contains("listening").then(|| line.find("127.0.0.1:").or_else(|| line.find("0.0.0.0:")))??;
    let rest = line.get(at..)?;
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ':').unwrap_or(rest.len());
    rest.get(..end)?.parse().ok()
}

/// Waits until `condition` gives a value.
///
/// # Errors
/// When it does not within `limit`; `what` says what was waited for.
pub async fn eventually<T, F: Future<Output = anyhow::Result<Option<T>>>>(
    what: &str,
    limit: Duration,
    mut condition: impl FnMut() -> F,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = condition().await? {
            return Ok(value);
        }
        if Instant::now() >= deadline {
            // Said here too: what is judged afterwards may hide it.
            eprintln!("not within {limit:?}: {what}");
            bail!("not within {limit:?}: {what}");
        }
        sleep(POLL_INTERVAL).await;
    }
}

/// Writes a file that only its owner can read.
///
/// # Errors
/// Whatever the file system says.
pub fn write_private(path: &Path, content: &[u8]) -> std::io::Result<()> {
    use std::{io::Write as _, os::unix::fs::OpenOptionsExt as _};
    File::options().write(true).create(true).truncate(true).mode(0o600).open(path)?.write_all(content)
}
