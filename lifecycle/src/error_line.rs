//! The line on standard error with which a program ends.

use wire::name::escaped_lines;

/// Joins the causes of an error from the outermost to the innermost. A cause whose text an outer one repeats is left out.
pub fn of(error: &anyhow::Error) -> String {
    let line = error.chain().fold(String::new(), |line, cause| {
        let cause = cause.to_string();
        match () {
            () if line.is_empty() => cause,
            () if line.contains(&cause) => line,
            () => format!("{line}: {cause}"),
        }
    });
    escaped_lines(&line)
}

#[cfg(test)]
mod tests {
    use std::io;

    use anyhow::Context as _;

    #[derive(Debug, thiserror::Error)]
    #[error("--origin-ca nofile: {0}")]
    struct Setting(#[from] io::Error);

    #[test]
    fn a_cause_is_named_once() {
        let error = Err::<(), _>(Setting::from(io::Error::other("no such file"))).context("cannot start").unwrap_err();
        assert_eq!(super::of(&error), "cannot start: --origin-ca nofile: no such file");
    }
}
