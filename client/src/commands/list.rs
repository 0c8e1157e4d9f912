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
        print(&nothing(list.part.as_deref().unwrap_or_default()));
    }
    Ok(())
}

fn nothing(part: &str) -> String {
    if part.is_empty() {
        return "No files. Publish one with `ddm-client publish PATH`.".to_owned();
    }
    format!("No file has '{}' in its name. `ddm-client list` shows all files.", text::plain_line(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_without_a_match_does_not_say_that_there_are_no_files() {
        assert!(nothing("x.iso").starts_with("No file has 'x.iso' in its name."));
        assert!(nothing("").starts_with("No files."));
    }
}
