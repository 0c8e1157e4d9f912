//! SQLite's result codes, sorted by what can be done about them.

/// Kind of a failure that comes from storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The volume has no room.
    Full,
    /// The volume or the file may not be written.
    ReadOnly,
    /// A file could not be opened: often the process has no descriptor left.
    CannotOpen,
    /// The volume fails.
    Failing,
    /// Pages of the database are not what was written, or the file is no database.
    Damaged,
}

impl Fault {
    /// Returns the fault that an error reports, if it comes from SQLite and concerns storage.
    pub fn of(error: &sqlx::Error) -> Option<Self> {
        let sqlx::Error::Database(error) = error else { return None };
        Self::of_code(error.code()?.parse().ok()?)
    }

    /// Classifies an extended result code; its low byte is the primary code.
    const fn of_code(code: u32) -> Option<Self> {
        // SQLITE_IOERR_SHMSIZE: the index of the write-ahead log could not be made larger.
        if code == 4874 {
            return Some(Self::Full);
        }
        Some(match code & 0xff {
            13 => Self::Full,
            8 => Self::ReadOnly,
            14 => Self::CannotOpen,
            10 => Self::Failing,
            11 | 26 => Self::Damaged,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_of_storage_are_told_apart() {
        for (code, fault) in [
            (13, Some(Fault::Full)),
            (4874, Some(Fault::Full)),
            (8, Some(Fault::ReadOnly)),
            (1032, Some(Fault::ReadOnly)),
            (778, Some(Fault::Failing)),
            (14, Some(Fault::CannotOpen)),
            (11, Some(Fault::Damaged)),
            (26, Some(Fault::Damaged)),
            (267, Some(Fault::Damaged)),
            (5, None),
            (19, None),
        ] {
            assert_eq!(Fault::of_code(code), fault, "{code}");
        }
    }
}
