//! How numbers are shown to people.

use std::time::Duration;

use bytesize::ByteSize;
use jiff::{Timestamp, tz::TimeZone};

/// `17.8 MB`-like sizes, in binary units and one digit.
pub(crate) fn size(bytes: u64) -> String {
    ByteSize::b(bytes).display().iec().to_string()
}

/// A rate in bytes a second.
pub(crate) fn rate(bytes: u64) -> String {
    format!("{}/s", size(bytes))
}

/// A time to the second, or to the hundredth when it is short.
pub(crate) fn time(time: Duration) -> String {
    if time < Duration::from_secs(10) {
        return format!("{:.2}s", time.as_secs_f64());
    }
    humantime::format_duration(Duration::from_secs(time.as_secs())).to_string()
}

/// The time until something ends, in whole seconds, rounded up.
pub(crate) fn left(left: Duration) -> String {
    humantime::format_duration(Duration::from_secs(left.as_secs() + 1)).to_string()
}

/// A moment as clocks here show it.
pub(crate) fn moment(moment: Timestamp) -> String {
    moment.to_zoned(TimeZone::system()).strftime("%F %T %Z").to_string()
}

/// Tenths of a per cent, as a per cent.
pub(crate) fn percent(permille: u32) -> String {
    format!("{}.{} %", permille / 10, permille % 10)
}

/// How much of `total` is `done`, in whole per cent; 100 only when it is all. All of an empty file is there.
pub(crate) fn whole_percent(done: u64, total: u64) -> u64 {
    if total == 0 { 100 } else { u64::try_from(u128::from(done) * 100 / u128::from(total)).unwrap_or(100) }
}
