use wire::FileId;

use crate::{
    context::Context,
    output::{print, print_json},
};

pub(super) async fn run(context: &Context, file: FileId) -> anyhow::Result<()> {
    context.info_server()?.remove(file).await?;
    if context.common.json {
        print_json(&serde_json::json!({ "event": "removed", "id": file }));
    } else {
        print(&format!("Removed {file}. The file servers delete their replicas shortly."));
    }
    Ok(())
}
