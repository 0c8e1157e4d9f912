//! The publication of a file: the event from which file servers learn its content.

use std::collections::BTreeSet;

use jiff::Timestamp;
use wire::{
    Zone,
    event::{EventPayload, Stream},
};

use crate::{
    catalogue::file::{Content, File},
    db::{self, Write},
    events::outbox,
};

/// Announces the content of a file to the zones of its holders; returns the newest event's number.
pub(crate) async fn announce(
    write: &mut Write,
    file: &File,
    content: Content,
    zones: BTreeSet<Zone>,
    now: Timestamp,
) -> db::Result<u64> {
    let published = EventPayload::FilePublished {
        file: file.id,
        size: file.layout.size(),
        chunk_size: file.layout.chunk_size(),
        root: content.root,
        sha256: content.sha256,
    };
    let mut newest = 0;
    for zone in zones {
        newest = outbox::append(write, &Stream::Zone(zone), &published, now).await?;
    }
    Ok(newest)
}
