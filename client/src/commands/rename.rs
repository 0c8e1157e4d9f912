use wire::{FileId, FileName};

use crate::{
    context::Context,
    output::{print, print_json},
};

pub(super) async fn run(context: &Context, file: FileId, name: &FileName) -> anyhow::Result<()> {
    context.info_server()?.rename(file, name).await?;
    if context.common.json {
        print_json(&serde_json::json!({ "event": "renamed", "id": file, "name": name }));
    } else {
        print(&format!("{file} is called {name} now."));
    }
    Ok(())
}
