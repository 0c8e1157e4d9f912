use crate::{
    cli::List,
    context::Context,
    output::{print, print_json},
    text,
};

const PAGE_SIZE: u32 = 200;

pub(super) async fn run(context: &Context, list: &List) -> anyhow::Result<()> {
    let info = context.info_server()?;
    let (mut left, mut cursor) = (list.limit, None::<String>);
    let mut any = false;
    while left > 0 {
        let part = list.part.as_deref().unwrap_or_default();
        let page = info.files(part, left.min(PAGE_SIZE), cursor.as_deref()).await?;
        for file in &page.files {
            left = left.saturating_sub(1);
            if context.common.json {
                print_json(file);
                continue;
            }
            if !any {
                print(&format!("{:<36}  {:>10}  {:>8}  {:<9}  NAME", "ID", "SIZE", "REPLICAS", "STATE"));
            }
            any = true;
            let state = if file.lost_chunks > 0 { "damaged" } else { file.state.as_str() };
            let size = text::size(file.size);
            print(&format!("{}  {size:>10}  {:>8}  {state:<9}  {}", file.id, file.live_replicas, file.name));
        }
        cursor = page.next_cursor;
        if cursor.is_none() || page.files.is_empty() {
            break;
        }
    }
    if !any && !context.common.json {
        print("No files. Publish one with `ddm-client publish PATH`.");
    }
    Ok(())
}
