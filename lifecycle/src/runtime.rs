//! The runtime of a program.

use std::io;

use rustix::process::Signal;
use tokio::{
    runtime::Runtime,
    signal::unix::{SignalKind, signal},
};

/// Starts the runtime of a program, and keeps SIGXFSZ from ending it: a write beyond the limit of `ulimit -f` then fails with
/// `EFBIG`, which is reported as every other error of a file.
///
/// The signal gets a handler and is not ignored, because programs that this one starts would ignore it, too.
///
/// # Errors
/// When the threads cannot be started or the signal handler cannot be installed.
pub fn start() -> io::Result<Runtime> {
    let runtime = Runtime::new()?;
    {
        let _entered = runtime.enter();
        // The handler stays for the life of the process.
        drop(signal(SignalKind::from_raw(Signal::XFSZ.as_raw()))?);
    }
    Ok(runtime)
}
