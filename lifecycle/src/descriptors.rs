//! How many files and connections the process may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What a program needs besides its connections and blobs: database, logs, the runtime, requests of its own.
const OTHERS: usize = 128;

/// Raises the limit on open files to what the process is allowed, and answers how many connections fit under it beside
/// `files` open files: at most `wanted`, and with a warning when it is less.
pub fn connections(wanted: usize, files: usize) -> usize {
    let fit = raise().map_or(usize::MAX, |limit| limit.saturating_sub(OTHERS.saturating_add(files)));
    if fit >= wanted {
        return wanted;
    }
    // Half of what there is, when the files alone would take it all: a few connections are better than none.
    let fit = fit.max(raise().map_or(wanted, |limit| limit / 2)).clamp(1, wanted);
    tracing::warn!(
        wanted,
        fit,
        files,
        "the limit on open files allows fewer connections than set: raise it (ulimit -n)"
    );
    fit
}

/// The limit on open files, raised as far as the process may; none when there is no limit.
fn raise() -> Option<usize> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    let limit = if raised.is_ok() { maximum } else { current };
    limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX))
}

/// Whether an error means that the process, or the machine, has no descriptor left.
pub fn exhausted(error: &std::io::Error) -> bool {
    use rustix::io::Errno;
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_is_taken_and_the_rest_left() {
        assert_eq!(connections(1, 0), 1);
        let few = connections(usize::MAX, 0);
        assert!(few >= 1 && connections(usize::MAX, usize::MAX) >= 1);
    }

    #[test]
    fn only_a_want_of_descriptors_is_one() {
        use rustix::io::Errno;
        for (errno, expected) in
            [(Errno::MFILE, true), (Errno::NFILE, true), (Errno::NOENT, false), (Errno::NOSPC, false)]
        {
            assert_eq!(exhausted(&errno.into()), expected, "{errno:?}");
        }
    }
}
