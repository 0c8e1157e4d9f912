//! Display of a transfer between servers, which is looked at from outside.

use std::time::Instant;

use transfer::progress::Snapshot;
use wire::{FileName, job::JobInfo};

use super::{bars::Bars, display::Display, line_gate::LineGate, watch::line};
use crate::{background, output::status, text};

/// Display of one transfer; the bars go when it is dropped.
pub(crate) struct RemoteDisplay {
    display: Display,
    bars: Option<Bars>,
    gate: LineGate,
}

impl RemoteDisplay {
    pub(crate) fn new(display: Display) -> Self {
        Self { display, bars: None, gate: LineGate::new(Instant::now(), display.is_on_terminal()) }
    }

    pub(crate) fn show(&mut self, name: &FileName, now: &Snapshot, job: Option<&JobInfo>) {
        let percent = (now.bytes_total > 0).then(|| text::whole_percent(now.bytes_done, now.bytes_total));
        match self.display {
            Display::Bars => self.bars.get_or_insert_with(|| Bars::new(name)).show(name, now, job),
            Display::Lines if self.gate.opens(Instant::now(), percent) => status(&line(name, now, job)),
            Display::Background => background::set_status(line(name, now, job)),
            Display::Lines | Display::Json | Display::Quiet => {}
        }
    }
}
