use wire::FileId;

use super::{Context, emit, say};

pub(super) async fn run(context: &Context, file: FileId) -> anyhow::Result<()> {
    context.info_server()?.remove(file).await?;
    if context.common.json {
        emit(&serde_json::json!({ "event": "removed", "id": file }));
    } else {
        say(&format!("{file} is removed; the servers drop it as they hear of it."));
    }
    Ok(())
}
