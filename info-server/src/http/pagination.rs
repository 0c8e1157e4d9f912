//! Pages of lists: their bounds, and the cursor that leads from one to the next.

use std::str::FromStr;

use crate::error::{Result, invalid};

/// A page that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Page {
    limit: u32,
}

/// The rows of a page, and the cursor of the next one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Listed<T> {
    pub(crate) rows: Vec<T>,
    /// None on the last page.
    pub(crate) next_cursor: Option<String>,
}

impl Page {
    /// Takes a page of 1 to `max` rows.
    ///
    /// # Errors
    /// 422 for any other limit.
    pub(crate) fn new(limit: u32, max: u32) -> Result<Self> {
        if (1..=max).contains(&limit) {
            Ok(Self { limit })
        } else {
            Err(invalid(format!("limit must be between 1 and {max}")))
        }
    }

    /// Returns the number of rows to read: one more than asked shows whether there is a next page.
    pub(crate) const fn rows_to_read(self) -> u32 {
        self.limit.saturating_add(1)
    }

    /// Cuts what was read to the page; `cursor_of` names the last row for the next page.
    pub(crate) fn cut<T, C: ToString>(self, mut rows: Vec<T>, cursor_of: impl Fn(&T) -> C) -> Result<Listed<T>> {
        let limit = usize::try_from(self.limit)?;
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next_cursor = rows.last().filter(|_| more).map(|last| cursor_of(last).to_string());
        Ok(Listed { rows, next_cursor })
    }
}

/// Reads a cursor; an absent or empty one begins with the first page.
///
/// # Errors
/// 422 for a text that no page answered with.
pub(crate) fn cursor<C: FromStr>(text: Option<&str>) -> Result<Option<C>> {
    let text = text.filter(|text| !text.is_empty());
    text.map(str::parse).transpose().map_err(|_| invalid("cursor must be the next_cursor of the page before"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_one_row_at_least_and_no_more_than_the_most() {
        for (limit, fits) in [(0, false), (1, true), (500, true), (501, false), (u32::MAX, false)] {
            assert_eq!(Page::new(limit, 500).is_ok(), fits, "{limit}");
        }
    }

    #[test]
    fn there_is_a_next_page_exactly_when_one_row_more_was_read() {
        let page = Page::new(2, 10).unwrap();
        assert_eq!(page.rows_to_read(), 3);
        for (read, shown, next) in
            [(vec![], vec![], None), (vec![1, 2], vec![1, 2], None), (vec![1, 2, 3], vec![1, 2], Some("2".to_owned()))]
        {
            assert_eq!(page.cut(read, |row| *row).unwrap(), Listed { rows: shown, next_cursor: next });
        }
    }

    #[test]
    fn a_cursor_is_one_that_a_page_answered_with() {
        assert_eq!(cursor::<u32>(None).unwrap(), None);
        assert_eq!(cursor::<u32>(Some("")).unwrap(), None);
        assert_eq!(cursor::<u32>(Some("7")).unwrap(), Some(7));
        assert!(cursor::<u32>(Some("seven")).is_err());
    }
}
