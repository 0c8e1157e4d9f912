//! The limit on open files, and the number of connections that fit under it.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use wire::grammar::counted;

/// Descriptors reserved for database, logs, the runtime and the program's own requests.
const RESERVED_DESCRIPTORS: usize = 128;

/// Raises the limit on open files as far as the process may, and returns the number of connections that fit under it beside
/// `files` open files: at most `wanted`. Logs a warning if it is less.
pub fn connections(wanted: usize, files: usize) -> usize {
    let fit =
        raise_limit().map_or(usize::MAX, |limit| limit.saturating_sub(RESERVED_DESCRIPTORS.saturating_add(files)));
    if fit >= wanted {
        return wanted;
    }
    // If the files alone exceed the limit, half of it is used: a few connections are better than none.
    let fit = fit.max(raise_limit().map_or(wanted, |limit| limit / 2)).clamp(1, wanted);
    tracing::warn!(
        wanted,
        fit,
        files,
        "The limit on open files allows {} instead of {wanted}: raise it (ulimit -n)",
        counted(fit, "connection")
    );
    fit
}

/// Raises the limit on open files and returns it, or `None` if there is no limit.
fn raise_limit() -> Option<usize> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    let limit = if raised.is_ok() { maximum } else { current };
    limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX))
}

/// Returns true for an error of a process or machine without free descriptors.
pub fn exhausted(error: &std::io::Error) -> bool {
    use rustix::io::Errno;
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_connections_as_fit_are_allowed() {
        assert_eq!(connections(1, 0), 1);
        let few = connections(usize::MAX, 0);
        assert!(few >= 1 && connections(usize::MAX, usize::MAX) >= 1);
    }

    #[test]
    fn only_a_lack_of_descriptors_counts_as_one() {
        use rustix::io::Errno;
        for (errno, expected) in
            [(Errno::MFILE, true), (Errno::NFILE, true), (Errno::NOENT, false), (Errno::NOSPC, false)]
        {
            assert_eq!(exhausted(&errno.into()), expected, "{errno:?}");
        }
    }
}
