use wire::{FileId, grammar::counted};

use crate::{
    context::Context,
    missing_chunks,
    output::{print, print_json},
    text,
};

pub(super) async fn run(context: &Context, file: FileId) -> anyhow::Result<()> {
    let details = context.info_server()?.file(file, context.common.zone.as_ref(), false).await?;
    if context.common.json {
        print_json(&details);
        return Ok(());
    }
    let summary = &details.summary;
    let chunks = wire::ChunkLayout::checked(summary.size, summary.chunk_size)?.count();
    print(&format!("name      {}", summary.name));
    print(&format!("id        {}", summary.id));
    print(&format!("size      {} ({})", text::size(summary.size), counted(summary.size, "byte")));
    print(&format!("chunks    {chunks} of {}", text::size(summary.chunk_size)));
    print(&format!("state     {}", summary.state.as_str()));
    print(&format!("created   {}", summary.created_at));
    if let Some(sha256) = summary.sha256 {
        print(&format!("sha256    {sha256}"));
    }
    if let Some(root) = details.root {
        print(&format!("root      {root}"));
    }
    for location in &details.locations {
        let address = location.url.origin().ascii_serialization();
        print(&format!(
            "server    {} in {}, {} of {}, {address}",
            location.server,
            location.zone,
            location.runs.len(),
            counted(chunks, "chunk")
        ));
    }
    if details.locations.is_empty() {
        print("server    none live");
    }
    for line in missing_chunks::lines(details.missing.as_ref()) {
        print(&format!("missing   {line}"));
    }
    Ok(())
}
