use transfer::{
    download::DownloadError,
    sink::{Destination, SequentialFile, SinkError},
};
use wire::{Digest, FileId, job::Validator};

use crate::{
    cli::Metalink,
    context::Context,
    destination::{self, FinalPath},
    lookup,
    output::print,
};

pub(super) async fn run(context: &Context, metalink: &Metalink) -> anyhow::Result<()> {
    let Metalink { file, output, replace } = metalink;
    let file = lookup::published(context, file).await?;
    let document = context.info_server()?.metalink(file, context.common.zone.as_ref()).await?;
    if output.as_deref().is_none_or(destination::is_standard_output) {
        print(document.trim_end());
        return Ok(());
    }
    let FinalPath { folder, name } = destination::final_path(output.as_deref(), &format!("{file}.meta4").parse()?)?;
    let destination = Destination { folder, name, partial_folder: None, replace: *replace };
    Ok(write(&destination, file, document.as_bytes()).map_err(DownloadError::from)?)
}

/// Writes the document aside and renames it when it is complete, like a download.
///
/// # Errors
/// [`SinkError`]; then nothing is left behind.
fn write(destination: &Destination, file: FileId, document: &[u8]) -> Result<(), SinkError> {
    let mut part = SequentialFile::open(destination, Digest::of(format!("metalink of {file}").as_bytes()))?;
    let written = part.start(0, Validator::None).and_then(|()| part.append(document)).and_then(|()| part.finish());
    if written.is_err() {
        part.discard();
    }
    written
}
