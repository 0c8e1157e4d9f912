use wire::FileId;

use super::{Context, emit, say};
use crate::text;

pub(super) async fn run(context: &Context, file: FileId) -> anyhow::Result<()> {
    let details = context.info_server()?.file(file, context.common.zone.as_ref(), false).await?;
    if context.common.json {
        emit(&details);
        return Ok(());
    }
    let summary = &details.summary;
    let chunks = wire::Layout::checked(summary.size, summary.chunk_size)?.count();
    say(&format!("name      {}", summary.name));
    say(&format!("id        {}", summary.id));
    say(&format!("size      {} ({} bytes)", text::size(summary.size), summary.size));
    say(&format!("chunks    {chunks} of {}", text::size(summary.chunk_size)));
    say(&format!("state     {}", summary.state.as_str()));
    say(&format!("created   {}", summary.created_at));
    if let Some(sha256) = summary.sha256 {
        say(&format!("sha256    {sha256}"));
    }
    if let Some(root) = details.root {
        say(&format!("root      {root}"));
    }
    for location in &details.locations {
        let place = location.url.origin().ascii_serialization();
        say(&format!(
            "held by   {} in {}, {} of {chunks} chunks, {place}",
            location.server,
            location.zone,
            location.runs.len()
        ));
    }
    if details.locations.is_empty() {
        say("held by   no live server");
    }
    Ok(())
}
