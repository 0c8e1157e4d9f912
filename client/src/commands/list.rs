use super::{Context, emit, say};
use crate::{cli::List, text};

const PAGE: u32 = 200;

pub(super) async fn run(context: &Context, list: &List) -> anyhow::Result<()> {
    let info = context.info_server()?;
    let (mut left, mut cursor) = (list.limit, None::<String>);
    let mut any = false;
    while left > 0 {
        let page = info.files(list.part.as_deref().unwrap_or_default(), left.min(PAGE), cursor.as_deref()).await?;
        for file in &page.files {
            left = left.saturating_sub(1);
            if context.common.json {
                emit(file);
                continue;
            }
            if !any {
                say(&format!("{:<36}  {:>10}  {:>8}  {:<9}  NAME", "ID", "SIZE", "REPLICAS", "STATE"));
            }
            any = true;
            let state = file.state.as_str();
            say(&format!(
                "{}  {:>10}  {:>8}  {state:<9}  {}",
                file.id,
                text::size(file.size),
                file.live_replicas,
                file.name
            ));
        }
        cursor = page.next_cursor;
        if cursor.is_none() || page.files.is_empty() {
            break;
        }
    }
    if !any && !context.common.json {
        say("No files. Publish one with: ddm-client publish PATH");
    }
    Ok(())
}
