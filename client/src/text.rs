//! Numbers and times as text for people.

use std::{path::Path, time::Duration};

use bytesize::ByteSize;
use jiff::{Timestamp, tz::TimeZone};

/// Formats a size in binary units with one decimal, for example `17.8 MiB`.
pub(crate) fn size(bytes: u64) -> String {
    ByteSize::b(bytes).display().iec().to_string()
}

/// Formats a path for a terminal, as [`plain_line`] does.
pub(crate) fn path(path: &Path) -> String {
    plain_line(&path.to_string_lossy())
}

/// Formats text of unknown origin in one line: characters that control a terminal, are invisible or change the display of others
/// are written as escapes.
pub(crate) fn plain_line(text: &str) -> String {
    wire::name::escaped(text)
}

/// Formats a rate in bytes per second.
pub(crate) fn rate(bytes: u64) -> String {
    format!("{}/s", size(bytes))
}

/// Formats a duration to the second, or to the hundredth below ten seconds.
pub(crate) fn time(time: Duration) -> String {
    if time < Duration::from_secs(10) {
        return format!("{:.2}s", time.as_secs_f64());
    }
    humantime::format_duration(Duration::from_secs(time.as_secs())).to_string()
}

/// Formats a remaining time in whole seconds, rounded up.
pub(crate) fn remaining(left: Duration) -> String {
    humantime::format_duration(Duration::from_secs(left.as_secs() + 1)).to_string()
}

/// Formats a point in time in the local time zone.
pub(crate) fn timestamp(at: Timestamp) -> String {
    at.to_zoned(TimeZone::system()).strftime("%F %T %Z").to_string()
}

/// Formats tenths of a percent as a percentage.
pub(crate) fn percent(permille: u32) -> String {
    format!("{}.{} %", permille / 10, permille % 10)
}

/// Returns the part of `total` that is `done`, in whole percent: 100 only when it is all. An empty file is complete.
pub(crate) fn whole_percent(done: u64, total: u64) -> u64 {
    if total == 0 { 100 } else { u64::try_from(u128::from(done) * 100 / u128::from(total)).unwrap_or(100) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_local_name_cannot_change_the_display_of_a_message() {
        for (name, shown) in [
            ("a\u{1b}[2J", "a\\u{1b}[2J"),
            ("a\nb", "a\\u{a}b"),
            ("a\u{202e}gnp.exe", "a\\u{202e}gnp.exe"),
            ("a\u{200b}b", "a\\u{200b}b"),
            ("é 漢.bin", "é 漢.bin"),
        ] {
            assert_eq!(path(Path::new(name)), shown, "{name:?}");
        }
    }
}
