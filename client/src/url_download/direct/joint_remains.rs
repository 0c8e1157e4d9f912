//! Notes about the bytes that are held: the user is told before any of them are discarded.

use transfer::sink::JointRemains;

use super::DirectDownload;
use crate::{progress, text};

impl DirectDownload<'_> {
    /// Shows once which of the chunks that a joint download left are continued.
    pub(super) fn note_joint_remains(&mut self) {
        let remains = self.part.as_ref().and_then(|part| part.file.joint_remains()).filter(|it| it.verified > 0);
        if let Some(remains) = remains.filter(|_| !std::mem::replace(&mut self.are_remains_shown, true)) {
            progress::note(self.display, "note", &remains_text(remains));
        }
    }

    /// Shows that the bytes held are discarded.
    pub(super) fn note_discarded(&self, held: u64) {
        let held = text::size(held);
        let why = "the origin has another version now, or sends the whole file only";
        progress::note(
            self.display,
            "note",
            &format!("Starting again from the first byte without the {held} held: {why}"),
        );
    }
}

fn remains_text(JointRemains { verified, held }: JointRemains) -> String {
    let (all, first, rest) = (text::size(verified), text::size(held), text::size(verified.saturating_sub(held)));
    if held == 0 {
        let why = "they do not begin at the first byte, changed on the disk, or have no strong validator";
        format!("The {all} from file servers cannot be continued directly and are fetched again: {why}")
    } else if held >= verified {
        format!("Continuing directly after the {all} from file servers")
    } else {
        format!("Continuing directly after the first {first} from file servers; {rest} behind a gap are fetched again")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_bytes_are_dropped_without_a_word() {
        let text = |verified: u64, held: u64| remains_text(JointRemains { verified: verified << 20, held: held << 20 });
        assert_eq!(text(3, 3), "Continuing directly after the 3.0 MiB from file servers");
        assert!(text(5, 3).contains("first 3.0 MiB from file servers; 2.0 MiB behind a gap are fetched again"));
        assert!(text(5, 0).contains("5.0 MiB from file servers cannot be continued"));
    }
}
