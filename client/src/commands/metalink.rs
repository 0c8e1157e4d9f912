use transfer::{
    download::DownloadError,
    sink::{Place, SinkError, WholeFile},
};
use wire::{Digest, FileId, job::Validator};

use super::{Context, get, say};
use crate::cli::Metalink;

pub(super) async fn run(context: &Context, asked: &Metalink) -> anyhow::Result<()> {
    let Metalink { file, output, replace } = asked;
    let document = context.info_server()?.metalink(*file, context.common.zone.as_ref()).await?;
    if output.is_none() {
        say(document.trim_end());
        return Ok(());
    }
    let (folder, name) = get::spot(output.as_deref(), &format!("{file}.meta4").parse()?)?;
    let place = Place { folder, name, partial_folder: None, replace: *replace };
    Ok(write(&place, *file, document.as_bytes()).map_err(DownloadError::from)?)
}

/// Writes it aside and gives it its name when it is whole, as a download.
///
/// # Errors
/// [`SinkError`]; then nothing is left of it.
fn write(place: &Place, file: FileId, document: &[u8]) -> Result<(), SinkError> {
    let mut whole = WholeFile::open(place, Digest::of(format!("metalink of {file}").as_bytes()))?;
    let written = whole.begin(0, Validator::None).and_then(|()| whole.add(document)).and_then(|()| whole.finish());
    if written.is_err() {
        whole.discard();
    }
    written
}
