use std::path::Path;

use anyhow::Context as _;
use wire::FileId;

use super::{Context, say};

pub(super) async fn run(context: &Context, file: FileId, output: Option<&Path>) -> anyhow::Result<()> {
    let document = context.info_server()?.metalink(file, context.common.zone.as_ref()).await?;
    match output {
        None => say(document.trim_end()),
        Some(path) => std::fs::write(path, document).with_context(|| format!("cannot write {}", path.display()))?,
    }
    Ok(())
}
